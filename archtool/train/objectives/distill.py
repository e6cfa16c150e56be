"""Distillation from a parent, without labels, by whatever both models give (as in the task ``agreement``).

Logits (`archtool.train.objectives.logits`), else a forecast (squared error), else sentence embeddings (mean-pooled:
their cosine distance where widths are equal, and the similarities within the batch).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.train.objectives.logits import check_temperature, logits_kl
from archtool.train.objectives.similarity import embeddings, similarity_distance
from archtool.train.objectives.teacher import Teacher, teacher_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Distillation:
    """The loss that is zero where the model equals its parent.

    Args:
        parent: put into eval mode; never changed.
        temperature: softens the distributions of logits; 1 compares them as they are.
    """

    parent: "nn.Module | Teacher"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        object.__setattr__(self, "parent", teacher_of(self.parent))

    @property
    def identity(self) -> tuple[str, float]:
        """The teacher and the temperature."""
        return teacher_of(self.parent).identity, self.temperature

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean distance to the parent's outputs on this batch."""
        return distance(outputs, teacher_of(self.parent).outputs(batch), batch, self.temperature)


def distance(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, temperature: float
) -> "Tensor":
    """How far one model's outputs are from another's; see the top of this file for what is compared."""
    import torch

    if "logits" in ours and "logits" in theirs:
        return logits_kl(ours, theirs, batch, temperature)
    if "forecast" in ours and "forecast" in theirs:
        return torch.nn.functional.mse_loss(ours["forecast"].float(), theirs["forecast"].float())
    return embedding_distance(ours, theirs, batch)


def embedding_distance(ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
    """Squared differences of the similarities within the batch, plus ``1 - cosine`` where widths are equal."""
    a_BD, b_BD = embeddings(ours, theirs, batch)
    similar = similarity_distance(a_BD, b_BD)
    return similar if a_BD.shape != b_BD.shape else similar + (1 - (a_BD * b_BD).sum(-1)).mean()
