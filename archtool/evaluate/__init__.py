"""How good a model is: tasks, their metrics with direction and standard error.

Models are called as ``module(**inputs) -> dict[str, Tensor]``. Nothing here imports torch before it runs.
"""

from archtool.evaluate.metrics import Metrics
from archtool.evaluate.pooling import Pooling
from archtool.evaluate.registry import TASKS, TaskInfo, TaskOptions, embeddings, evaluate, find_task

__all__ = [
    "TASKS",
    "Metrics",
    "Pooling",
    "TaskInfo",
    "TaskOptions",
    "embeddings",
    "evaluate",
    "find_task",
]
