"""Judging a model while it trains, on examples kept apart: the best weights, and when to stop."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batches
from archtool.data.dataset import Data
from archtool.errors import InputError
from archtool.train.objectives.passes import passes_of
from archtool.train.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

EVALUATIONS = 20
"""Over a run whose settings do not say how often."""
BY_TIME = 50
"""Steps between evaluations of a run that ends by time."""
TASKS = ("image-classification", "text-classification", "lm", "translation", "forecast")
"""Tasks whose first metric can be measured on any subset of labelled data."""


@dataclass
class Validation:
    """The course of a metric on held-out data.

    Attributes:
        data: what is held out.
        metric: its name; ``loss``, of the objective, where the data has no labels of its own.
        higher: whether more is better.
        every: steps between evaluations.
        patience: evaluations without a better value after which the run stops (0: never).
        values: (step, value) of all evaluations.
        best: the weights of the best one.
    """

    data: Data
    metric: str
    higher: bool
    every: int
    patience: int
    values: list[tuple[int, float]] = field(default_factory=list)
    best: "Mapping[str, Tensor]" = field(default_factory=dict)

    def due(self, step: int, steps: int | None) -> bool:
        """Whether there is an evaluation after ``step``: regularly, and at the end of the run."""
        return step % self.every == 0 or step == steps

    def note(self, step: int, value: float, module: "nn.Module") -> None:
        """Take a value; where it is the best so far, keep a copy of the weights."""
        self.values.append((step, value))
        if self.best_step == step:
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}

    @property
    def best_step(self) -> int:
        """The step of the best value, the first of equal ones; 0 before any."""
        ranked = sorted(self.values, key=lambda pair: (-pair[1] if self.higher else pair[1], pair[0]))
        return ranked[0][0] if ranked else 0

    def exhausted(self) -> bool:
        """Whether the last ``patience`` evaluations all failed to be the best."""
        since = [step for step, _ in self.values if step > self.best_step]
        return bool(self.patience) and len(since) >= self.patience

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"values": [list(pair) for pair in self.values], "best": dict(self.best)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.values = [(int(step), float(value)) for step, value in state["values"]]
        self.best = state["best"]


def split_off(data: Data, settings: TrainSettings) -> tuple[Data, Validation | None]:
    """The data to train on, and the part to judge by where the settings ask for one.

    Raises:
        InputError: too few examples for two parts.
    """
    if not settings.validation:
        return data, None
    import numpy as np

    count = round(settings.validation * len(data))
    if not 0 < count < len(data):
        what = f"{settings.validation:g} of {len(data)} examples cannot be held out"
        raise InputError(what, "give more data, or another share")
    order = np.random.default_rng([settings.seed, 2]).permutation(len(data))
    held = data.select(np.sort(order[:count]))
    name, higher = metric_of(data)
    every = settings.validation_steps or (max(1, settings.steps // EVALUATIONS) if settings.steps else BY_TIME)
    return data.select(np.sort(order[count:])), Validation(held, name, higher, every, settings.patience)


def metric_of(data: Data) -> tuple[str, bool]:
    """The metric that judges, and whether more is better: the task's first, or the objective's loss."""
    from archtool.evaluate.registry import find_task

    if data.task not in TASKS or not data.targets:
        return "loss", False
    name, higher = next(iter(find_task(data.task).directions.items()))
    return name, higher


def objective_loss(module: "nn.Module", objective: Any, data: Data, batch_size: int, device: str) -> float:
    """The mean of an objective over data, by the examples of each batch; the module's mode is restored."""
    import numpy as np
    import torch

    from archtool.evaluate.loop import evaluating

    total = 0.0
    with evaluating(module):
        for begin in range(0, len(data), batch_size):
            positions = np.arange(begin, min(begin + batch_size, len(data)))
            batch = Batches(data, batch_size, device=device).batch(positions)
            batch = replace(batch, passes=torch.zeros(len(positions), dtype=torch.long))
            passes = passes_of(objective, module, batch, torch.Generator().manual_seed(0))
            total += sum(float(made.losses["loss"]) for made in passes) * len(positions)
    return total / len(data)
