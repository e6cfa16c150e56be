"""Mean squared error of a forecast."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.errors import InputError
from archtool.evaluate.loop import output, target

if TYPE_CHECKING:
    from torch import Tensor


def forecast_loss(outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
    """Mean over batch, horizon and variables of the squared error of ``forecast`` (B, T, V)."""
    import torch.nn.functional as F

    forecast_BTV, future_BTV = output(outputs, "forecast", "training"), target(batch, "future", "training")
    if forecast_BTV.shape != future_BTV.shape:
        what = f"the model forecasts {tuple(forecast_BTV.shape)}, the data holds {tuple(future_BTV.shape)}"
        raise InputError(what, "set data.preprocess.length and horizon to the model's")
    return F.mse_loss(forecast_BTV.float(), future_BTV.float())
