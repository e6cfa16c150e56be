"""Forecasting: mean squared and absolute error over windows, horizon and variables, in the data's scale."""

from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.evaluate.loop import check_finite, output, outputs_of, target
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """MSE and MAE; windows overlap, so no standard error is given."""
    squared, absolute, count = 0.0, 0.0, 0
    for batch, outputs in outputs_of(module, settings, "evaluate forecast"):
        forecast_BTV = output(outputs, "forecast", "forecast").float()
        check_finite(forecast_BTV, "the forecast", batch)
        error_BTV = difference(forecast_BTV, target(batch, "future", "forecast"))
        squared += float((error_BTV**2).sum())
        absolute += float(error_BTV.abs().sum())
        count += error_BTV.numel()
    values = {"mse": squared / count, "mae": absolute / count}
    return Metrics("forecast", values, len(settings.batches.data), {}, TASKS["forecast"].directions)


def difference(forecast_BTV: "Tensor", future_BTV: "Tensor") -> "Tensor":
    """Forecast minus truth in float64; `InputError` where the shapes differ."""
    if forecast_BTV.shape != future_BTV.shape:
        what = f"the model forecasts {tuple(forecast_BTV.shape)}, the data holds {tuple(future_BTV.shape)}"
        raise InputError(what, "set data.preprocess.length and horizon to the model's")
    return forecast_BTV.double() - future_BTV.double()
