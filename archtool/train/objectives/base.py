"""Losses and objectives: the contracts, the loss of each task, and the weighted sum.

A *loss* compares the outputs of one forward pass with a batch. It may have ``places`` (what of the model's inside it
looks at, by `archtool.model.capture`), ``trained`` (a module of its own that is trained along) and an ``identity``
(what decides its value, such as the hash of a teacher). An *objective* runs the module and returns named losses with
their total under ``loss``; it may have ``trained`` and ``identity`` too. The loop calls nothing else. Sampling
sub-networks, or running a model twice, is another objective.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from archtool.data.batches import Batch
from archtool.errors import UsageError
from archtool.train.objectives.teacher import watched

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

TASK_LOSSES: Mapping[str, str] = {
    "image-classification": "archtool.train.objectives.classes:class_loss",
    "text-classification": "archtool.train.objectives.classes:class_loss",
    "lm": "archtool.train.objectives.next_token:next_token_loss",
    "translation": "archtool.train.objectives.next_token:next_token_loss",
    "forecast": "archtool.train.objectives.forecast:forecast_loss",
}


class Loss(Protocol):
    """A mean loss of a batch."""

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """A scalar tensor; `InputError` where outputs or targets are missing."""
        ...


class Objective(Protocol):
    """What one forward pass of training is."""

    def __call__(self, module: "nn.Module", batch: Batch, generator: "torch.Generator") -> "dict[str, Tensor]":
        """Scalar losses by name; ``loss`` is the one that is minimised.

        ``generator`` (on the CPU) is seeded by (seed, step) and serves everything that is drawn.
        """
        ...


class Term(NamedTuple):
    """One summand."""

    name: str
    weight: float
    loss: Loss


class WeightedSum:
    """The objective of one forward pass and a weighted sum of losses."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = [term for term in terms if term.weight]
        if not self.terms:
            raise UsageError("nothing to minimise: every weight is 0", "give a loss a weight")
        self.places = {place for term in self.terms for place in getattr(term.loss, "places", ())}
        self.trained = trained_along(self.terms)
        self.identity = [[term.name, term.weight, getattr(term.loss, "identity", "")] for term in self.terms]

    def __call__(self, module: "nn.Module", batch: Batch, generator: "torch.Generator") -> "dict[str, Tensor]":
        """The losses of each term and their sum."""
        outputs = watched(module, batch, self.places)
        losses = {term.name: term.loss(outputs, batch) for term in self.terms}
        total = sum((term.weight * losses[term.name] for term in self.terms[1:]), self._first(losses))
        return {"loss": total, **(losses if len(losses) > 1 else {})}

    def _first(self, losses: "Mapping[str, Tensor]") -> "Tensor":
        return self.terms[0].weight * losses[self.terms[0].name]


def trained_along(terms: Sequence[Term]) -> "nn.ModuleDict | None":
    """The modules that losses train for themselves (projectors), by the losses' names; None where there is none."""
    from torch import nn

    own: dict[str, Any] = {term.name: getattr(term.loss, "trained", None) for term in terms}
    modules = {name: module for name, module in own.items() if module is not None}
    return nn.ModuleDict(modules) if modules else None


def task_loss(task: str) -> Loss:
    """The loss of the data's task; `UsageError` for a task that has none."""
    if task not in TASK_LOSSES:
        hint = f"tasks with a loss are {', '.join(TASK_LOSSES)}; distillation from a parent needs none"
        raise UsageError(f"{task or 'this'} data has no training loss of its own", hint)
    module, _, name = TASK_LOSSES[task].partition(":")
    loss: Loss = getattr(import_module(module), name)
    return loss
