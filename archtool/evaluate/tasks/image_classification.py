"""Image classification: top-1 accuracy and mean cross entropy (nats)."""

from typing import TYPE_CHECKING

from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import Settings
from archtool.evaluate.tasks.classification import classify, summarise

if TYPE_CHECKING:
    from torch import nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Accuracy and loss."""
    return summarise(classify(module, settings), settings, {})
