"""Text classification: accuracy, mean cross entropy (nats), and F1."""

from typing import TYPE_CHECKING

from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import Settings
from archtool.evaluate.statistics import f1_score
from archtool.evaluate.tasks.classification import classify, summarise

if TYPE_CHECKING:
    from torch import nn


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Accuracy, F1 (of class 1 for two classes, else macro) and loss."""
    result = classify(module, settings)
    f1 = f1_score(result.labels_N, result.predicted_N, result.classes)
    return summarise(result, settings, {"f1": f1})
