"""From names and weights, as a recipe has them (``{task: 0.5, kl: 1, hidden: 0.1}``), to the terms of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archtool.errors import UsageError
from archtool.train.objectives.base import Loss, Term, task_loss
from archtool.train.objectives.layers import LayerMap

if TYPE_CHECKING:
    from archtool.ir.architecture import Architecture
    from archtool.train.objectives.teacher import Teacher
    from archtool.train.store import StoredTeacher

LOSSES: Mapping[str, str] = {
    "task": "the loss of the data's task, from its labels",
    "distillation": "nearness to the teacher by what both give: logits, a forecast, or embeddings",
    "kl": "divergence from the teacher's softened distribution",
    "hard": "cross entropy to the teacher's most probable class",
    "hidden": "distance from the teacher's hidden states, through learned projectors",
    "attention": "divergence from the teacher's relations among queries, keys and values",
    "similarity": "difference of the similarities within a batch of embeddings",
}
"""Name → what it is."""

LOGITS = ("kl", "hard", "distillation")
"""Losses that stored logits serve."""


@dataclass(frozen=True)
class LossSettings:
    """What the losses need to know.

    Attributes:
        temperature: softens the distributions of ``kl`` and ``distillation``.
        layers: which layers ``hidden`` and ``attention`` match.
        relation_heads: of ``attention``.
        seed: of the projectors of ``hidden``.
    """

    temperature: float = 2.0
    layers: LayerMap = "last"
    relation_heads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """Who teaches.

    Attributes:
        model: a teacher that runs, with its ``architecture``; None where there is only a store.
        store: its logits, written down; they serve `LOGITS`.
    """

    model: Teacher | None = None
    architecture: Architecture | None = None
    store: StoredTeacher | None = None


def terms_of(
    weights: Mapping[str, float], task: str, ours: Architecture, lesson: Lesson | None, settings: LossSettings
) -> tuple[Term, ...]:
    """The terms of those names; weights of 0 are left out.

    Args:
        weights: name (of `LOSSES`) → weight.
        task: the data's.
        ours: the architecture of the model that is trained.
        lesson: who teaches; None where all losses are the labels' own.
        settings: of the losses.

    Raises:
        UsageError: a loss that needs another teacher than there is.
    """
    return tuple(
        Term(name, weight, _loss(name, task, ours, lesson, settings)) for name, weight in weights.items() if weight
    )


def _loss(name: str, task: str, ours: Architecture, lesson: Lesson | None, settings: LossSettings) -> Loss:
    if name == "task":
        return task_loss(task)
    if lesson is None:
        raise UsageError(f"the loss {name!r} needs a teacher", "give --teacher PATH")
    teacher = lesson.store if name in LOGITS and lesson.store is not None else lesson.model
    if teacher is None or (name not in LOGITS and lesson.architecture is None):
        raise UsageError(f"the loss {name!r} needs more than stored logits", "give --teacher PATH")
    return _matching(name, ours, teacher, lesson.architecture, settings)


def _matching(
    name: str, ours: Architecture, teacher: Teacher, theirs: Architecture | None, settings: LossSettings
) -> Loss:
    from archtool.train.objectives.distill import Distillation
    from archtool.train.objectives.hidden import HiddenStates
    from archtool.train.objectives.logits import HardLabels, SoftLabels
    from archtool.train.objectives.relations import AttentionRelations
    from archtool.train.objectives.similarity import PairwiseSimilarity

    if name == "hidden" and theirs is not None:
        return HiddenStates(teacher, ours, theirs, settings.layers, settings.seed)
    if name == "attention" and theirs is not None:
        return AttentionRelations(teacher, ours, theirs, settings.layers, settings.relation_heads)
    if name == "similarity":
        return PairwiseSimilarity(teacher)
    if name == "hard":
        return HardLabels(teacher)
    kind = SoftLabels if name == "kl" else Distillation
    return kind(teacher, settings.temperature)
