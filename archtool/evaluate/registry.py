"""The tasks by name, without torch, and `evaluate`, which runs one."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from archtool.data.batches import Batches
from archtool.data.dataset import Data
from archtool.data.spec import did_you_mean
from archtool.errors import UsageError
from archtool.evaluate.loop import evaluating
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.pooling import Pooling
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TaskOptions:
    """What only one task reads.

    Args:
        draft_tokens: ``speculation``: tokens drafted per pass of the target.
        index_ND: ``retrieval``: embeddings of the examples by the model that made the index; None: the model itself.
        least_score: ``retrieval``: the gold score from which a pair counts as true.
    """

    draft_tokens: int = 4
    index_ND: "Tensor | None" = None
    least_score: float = 4.0


@dataclass(frozen=True)
class Settings:
    """How an evaluation runs.

    Args:
        batches: passes over the data.
        progress: who is told.
        parent: the model to agree with, for ``agreement``; the draft, for ``speculation``.
        pooling: for embeddings.
        bootstrap: resamples for the standard errors that have no closed form (0: none).
        seed: of the bootstrap and of drawn pairs.
        name: of the task as asked (``my.py:metric`` for a user's own).
        options: of single tasks.
    """

    batches: Batches
    progress: Progress
    parent: "nn.Module | None"
    pooling: Pooling
    bootstrap: int
    seed: int
    name: str
    options: TaskOptions = field(default_factory=TaskOptions)


class Run(Protocol):
    """What a task's target is."""

    def __call__(self, module: "nn.Module", settings: Settings) -> Metrics:
        """Evaluate; modules are in eval mode and no gradient is recorded."""
        ...


@dataclass(frozen=True)
class TaskInfo:
    """A task: what it reads, which metrics it gives with their direction (None: none), and where it is."""

    name: str
    summary: str
    data: tuple[str, ...]
    metrics: Mapping[str, bool | None]
    target: str

    @property
    def directions(self) -> dict[str, bool]:
        """Metrics that have a direction: True where higher is better."""
        return {name: higher for name, higher in self.metrics.items() if higher is not None}

    def load(self) -> Run:
        """The function that runs it."""
        module, _, name = self.target.partition(":")
        run: Run = getattr(importlib.import_module(module), name)
        return run


def _info(name: str, summary: str, metrics: Mapping[str, bool | None], data: tuple[str, ...] = ()) -> TaskInfo:
    module = name.replace("-", "_")
    return TaskInfo(name, summary, data or (name,), metrics, f"archtool.evaluate.tasks.{module}:run")


_ALL = ("image-classification", "text-classification", "similarity", "lm", "translation", "forecast")

TASKS: Mapping[str, TaskInfo] = {
    info.name: info
    for info in (
        _info("image-classification", "top-1 accuracy and cross entropy", {"accuracy": True, "loss": False}),
        _info(
            "text-classification",
            "accuracy, cross entropy, and F1 (of class 1 for two classes, else macro)",
            {"accuracy": True, "f1": True, "loss": False},
        ),
        _info(
            "similarity",
            "correlation of cosine similarity with gold scores",
            {"spearman": True, "pearson": True},
        ),
        _info(
            "lm",
            "cross entropy in nats per token, perplexity",
            {"loss": False, "perplexity": False, "tokens": None},
        ),
        _info(
            "translation",
            "cross entropy per target token; greedy output: share that is the target, character error rate",
            {"loss": False, "exact_match": True, "cer": False, "tokens": None},
        ),
        _info("forecast", "errors of the forecast, in the data's scale", {"mse": False, "mae": False}),
        _info(
            "agreement",
            "nearness to a parent: KL and top-1 match, cosine and rank correlation, or error",
            {
                "kl": False,
                "top1_match": True,
                "cosine": True,
                "spearman": True,
                "mse": False,
                "mae": False,
            },
            _ALL,
        ),
        _info(
            "retrieval",
            "each true pair's second sentence found by its first: recall among the best 1 and 10, mean reciprocal rank",
            {"recall@1": True, "recall@10": True, "mrr": True, "queries": None, "documents": None},
            ("similarity",),
        ),
        _info(
            "speculation",
            "what a draft model is worth in speculative decoding: share of its tokens taken, tokens per pass",
            {
                "acceptance_rate": True,
                "greedy_match": True,
                "tokens_per_call": True,
                "sampled_tokens_per_call": True,
                "greedy_tokens_per_call": True,
            },
            ("lm",),
        ),
    )
}

PARTNERS: Mapping[str, tuple[str, str]] = {
    "agreement": ("a parent", "name the model to compare with"),
    "speculation": ("a draft", "use --task lm --draft MODEL"),
}
"""Tasks on two models: what the other one is, and how it is named."""

USER_TASK = TaskInfo("user", "a function of your own", _ALL, {}, "archtool.evaluate.tasks.user:run")


def find_task(name: str) -> TaskInfo:
    """The task of a name, or of ``FILE.py:FUNCTION``; `UsageError` lists the names."""
    if name in TASKS:
        return TASKS[name]
    if ".py" in name:
        return USER_TASK
    hint = f"tasks are {', '.join(TASKS)}, or my.py:metric{did_you_mean(name, TASKS)}"
    raise UsageError(f"no task {name!r}", hint)


def evaluate(
    module: "nn.Module",
    task: str,
    data: Data,
    *,
    batch_size: int = 32,
    device: str = "cpu",
    progress: Progress = SILENT,
    parent: "nn.Module | None" = None,
    pooling: Pooling | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    options: TaskOptions | None = None,
) -> Metrics:
    """The metrics of a model on data.

    Modules are put in eval mode for the duration and restored; no gradient is recorded.

    Args:
        module: called as ``module(**inputs)``, giving a dictionary of tensors.
        task: a name of `TASKS`, or ``FILE.py:FUNCTION``.
        data: of a kind that the task reads.
        batch_size: examples per batch.
        device: where batches are put; the modules must be there already.
        progress: who is told.
        parent: the model to agree with (``agreement``) or the draft (``speculation``).
        pooling: for embeddings; None is the mean over tokens, normalised.
        bootstrap: resamples for the standard error of correlations (0: none).
        seed: of the bootstrap, of drawn pairs and of sampled text.
        options: of single tasks.

    Raises:
        UsageError: an unknown task, data of another kind, or a missing parent.
        InputError: missing labels or model outputs, or a loss that is not finite, with its place.
    """
    info = find_task(task)
    if data.task not in info.data:
        hint = f"it reads {', '.join(info.data)}; state the task of the data, or choose another"
        raise UsageError(f"task {task} cannot be evaluated on {data.task} data", hint)
    if task in PARTNERS and parent is None:
        partner, hint = PARTNERS[task]
        raise UsageError(f"{task} needs {partner}", hint)
    batches = Batches(data, batch_size, order="length", device=device)
    settings = Settings(
        batches, progress, parent, pooling or Pooling(), bootstrap, seed, task, options or TaskOptions()
    )  # fmt: skip
    with evaluating(module, *([parent] if parent is not None else [])):
        return info.load()(module, settings)


def embeddings(
    module: "nn.Module",
    data: Data,
    *,
    batch_size: int = 32,
    device: str = "cpu",
    progress: Progress = SILENT,
    pooling: Pooling | None = None,
) -> "Tensor":
    """Embeddings (N, D) of all examples by a model, in the data's order; see `evaluate`."""
    from archtool.evaluate.tasks.similarity import embed

    batches = Batches(data, batch_size, order="length", device=device)
    with evaluating(module):
        return embed(module, Settings(batches, progress, None, pooling or Pooling(), 0, 0, "retrieval"))
