"""What image and text classification share: one pass that collects losses and predictions."""

from typing import TYPE_CHECKING, Any, NamedTuple

from archtool.evaluate.loop import check_finite, check_labels, output, outputs_of, target
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings
from archtool.evaluate.statistics import mean_stderr, proportion_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


class Classified(NamedTuple):
    """Per example: gold class, predicted class, cross entropy in nats; and how many classes there are."""

    labels_N: "NDArray[Any]"
    predicted_N: "NDArray[Any]"
    losses_N: "NDArray[Any]"
    classes: int


def classify(module: "nn.Module", settings: Settings) -> Classified:
    """Run all batches; the order of examples is that of the batches."""
    import torch
    import torch.nn.functional as F

    columns: list[list[torch.Tensor]] = [[], [], []]
    classes = 0
    for batch, outputs in outputs_of(module, settings, f"evaluate {settings.name}"):
        logits_BN = output(outputs, "logits", settings.name).float()
        labels_B = target(batch, "labels", settings.name)
        classes = logits_BN.shape[-1]
        check_labels(labels_B, classes)
        losses_B = F.cross_entropy(logits_BN, labels_B, reduction="none")
        check_finite(losses_B, "the loss", batch)
        for column, values in zip(columns, (labels_B, logits_BN.argmax(-1), losses_B.double()), strict=True):
            column.append(values.cpu())
    labels, predicted, losses = (torch.cat(column).numpy() for column in columns)
    return Classified(labels, predicted, losses, classes)


def summarise(result: Classified, settings: Settings, extra: dict[str, float]) -> Metrics:
    """Accuracy and loss with their standard errors, and further metrics."""
    count = len(result.labels_N)
    accuracy = float((result.labels_N == result.predicted_N).mean())
    values = {"accuracy": accuracy, **extra, "loss": float(result.losses_N.mean())}
    stderr = {
        "accuracy": proportion_stderr(accuracy, count),
        "loss": mean_stderr(result.losses_N),
    }
    return Metrics(settings.name, values, count, stderr, TASKS[settings.name].directions)
