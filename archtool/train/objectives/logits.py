"""Distillation of logits: softened (Hinton, Vinyals & Dean 2015) or as hard labels (Touvron et al. 2021, DeiT)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.data.positions import by_position, counted_positions
from archtool.errors import InputError, UsageError
from archtool.evaluate.loop import output
from archtool.train.objectives.teacher import Teacher

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SoftLabels:
    """``T^2 * KL(teacher || model)`` at temperature T, per example, token or cell that counts."""

    teacher: Teacher
    temperature: float = 2.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def identity(self) -> tuple[str, float]:
        """The teacher and the temperature."""
        return self.teacher.identity, self.temperature

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean over the batch."""
        return logits_kl(outputs, self.teacher.outputs(batch), batch, self.temperature)


@dataclass(frozen=True)
class HardLabels:
    """Cross entropy to the teacher's most probable class, in nats."""

    teacher: Teacher

    @property
    def identity(self) -> str:
        """The teacher."""
        return self.teacher.identity

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean over the batch."""
        import torch.nn.functional as F

        ours, theirs, counts = _matched(outputs, self.teacher.outputs(batch), batch)
        return F.cross_entropy(ours[counts].float(), theirs[counts].argmax(-1), reduction="sum") / max(
            1, int(counts.sum())
        )


def logits_kl(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, temperature: float
) -> "Tensor":
    """`softened_kl` of two models' outputs."""
    return softened_kl(*_matched(ours, theirs, batch), temperature)


def softened_kl(ours: "Tensor", theirs: "Tensor", counts: "Tensor", temperature: float) -> "Tensor":
    """``T^2 * KL(softmax(theirs / T) || softmax(ours / T))``: mean over the positions that count.

    Args:
        ours: logits (..., N) of the model.
        theirs: logits (..., N) of the parent.
        counts: (...) which rows count.
        temperature: T.
    """
    import torch

    _check_shapes(ours, theirs)
    log_q, log_p = (torch.log_softmax(x[counts].float() / temperature, -1) for x in (ours, theirs))
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    return temperature**2 * kl.sum() / max(1, len(kl))


def check_temperature(temperature: float) -> None:
    """`UsageError` where it is not above zero."""
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}", "give a number above 0")


def _matched(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch
) -> "tuple[Tensor, Tensor, Tensor]":
    """Both logits, a row per position, and which rows count."""
    mine = by_position(output(ours, "logits", "distillation of logits"))
    wanted = by_position(output(theirs, "logits", "distillation of logits"))
    _check_shapes(mine, wanted)
    return mine, wanted, counted_positions(batch, wanted)


def _check_shapes(ours: "Tensor", theirs: "Tensor") -> None:
    if ours.shape != theirs.shape:
        shapes = f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
        raise InputError(f"logits of the model and its parent differ in shape: {shapes}", "compare like with like")
