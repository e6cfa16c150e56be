"""Losses of a nested model's submodels on held-out examples: measured on the parent's weights, kept in the journal.

The loss is the task's where the data has labels (and for running text); else what the submodel differs from the whole
model: KL(whole || submodel), the mean squared difference of forecasts, or 1 - cosine of embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archtool.run.assess import BATCH, loaded
from archtool.run.inputs import pooling_of, training_data
from archtool.run.step import Context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from archtool.data import Data
    from archtool.model.build import Model
    from archtool.model.checkpoint import Checkpoint
    from archtool.transforms.extract.grid import Grid, Picks

LOSSES = ("loss", "mse")
"""Metrics of tasks that are losses."""
DIFFERENCES = ("kl", "mse", "cosine")
"""Metrics of agreement, in order of preference."""


def held_out(checkpoint: Checkpoint, context: Context, split: str, examples: int) -> Data:
    """Examples on which submodels are compared: not those that judge the result."""
    from archtool.data import calibration

    data = training_data(context.recipe, checkpoint, split)
    return data if len(data) <= examples else calibration(data, examples, context.seed)


class Losses:
    """Measures submodels, each once in a run; an interrupted run goes on from its journal.

    Attributes:
        name: of the loss.
        measured: how many this process measured.
    """

    def __init__(self, checkpoint: Checkpoint, grid: Grid, data: Data, context: Context) -> None:
        from archtool.model.views import Family

        self.grid, self.data, self.context = grid, data, context
        self.pooling = pooling_of(checkpoint)
        self.family = Family(loaded(checkpoint, context), grid.nesting)
        self.task, self.name = _loss_of(data)
        self.whole = None if self.task != "agreement" else Remembered(self.family.model, data, context.device)
        self.measured = 0
        self._known = {unit: facts["loss"] for unit, facts in context.finished().items() if "loss" in facts}

    def __call__(self, picks: Picks) -> float:
        """The loss of one submodel."""
        from archtool.transforms.extract.grid import label

        unit = f"submodel {label(picks)}"
        if unit not in self._known:
            self._known[unit] = self._measured(picks)
            self.context.finish(unit, loss=self._known[unit])
            self.measured += 1
        return self._known[unit]

    def _measured(self, picks: Picks) -> float:
        from archtool.evaluate.registry import evaluate

        context = self.context
        with self.family.member(self.grid.submodel(picks)).running() as module:
            found = evaluate(
                module, self.task, self.data, batch_size=BATCH, device=context.device, parent=self.whole,  # type: ignore[arg-type]
               
                pooling=self.pooling, seed=context.seed,
            )  # fmt: skip
        if self.task != "agreement":
            return found.values[self.name]
        metric = next(name for name in DIFFERENCES if name in found.values)
        self.name = "1 - cosine" if metric == "cosine" else metric
        return 1 - found.values[metric] if metric == "cosine" else found.values[metric]


def _loss_of(data: Data) -> tuple[str, str]:
    """The task that gives the loss, and the loss' name."""
    from archtool.evaluate.registry import TASKS

    name = next((name for name in LOSSES if name in TASKS[data.task].metrics), "")
    return (data.task, name) if name and data.targets else ("agreement", "kl")


class Remembered:
    """The outputs of the whole model on the batches of an evaluation, given again in their order, round after round."""

    def __init__(self, module: Model, data: Data, device: str) -> None:
        import torch

        from archtool.data import Batches
        from archtool.evaluate.loop import evaluating

        with evaluating(module), torch.no_grad():
            batches = Batches(data, BATCH, order="length", device=device)
            self._outputs = [module(**batch.inputs) for batch in batches]
        self._next = 0

    def __call__(self, **inputs: Tensor) -> Mapping[str, Tensor]:
        """The outputs on the next batch."""
        found = self._outputs[self._next]
        self._next = (self._next + 1) % len(self._outputs)
        return found

    def modules(self) -> Iterator[Any]:
        """None: nothing of it has a mode."""
        return iter(())

    def eval(self) -> Remembered:
        """Itself."""
        return self
