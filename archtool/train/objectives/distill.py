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
        import torch

        wanted = teacher_of(self.parent).outputs(batch)
        if "logits" in outputs and "logits" in wanted:
            return logits_kl(outputs, wanted, batch, self.temperature)
        if "forecast" in outputs and "forecast" in wanted:
            return torch.nn.functional.mse_loss(outputs["forecast"].float(), wanted["forecast"].float())
        return embedding_distance(outputs, wanted, batch)


def embedding_distance(ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
    """Squared differences of the similarities within the batch, plus ``1 - cosine`` where widths are equal."""
    a_BD, b_BD = embeddings(ours, theirs, batch)
    similar = similarity_distance(a_BD, b_BD)
    return similar if a_BD.shape != b_BD.shape else similar + (1 - (a_BD * b_BD).sum(-1)).mean()
