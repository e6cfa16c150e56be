"""Distillation of embedding models by the similarities within a batch, whatever the two widths.

Source: relational knowledge distillation (Park et al. 2019; Tung & Mori 2019), with cosine similarities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.errors import InputError
from archtool.evaluate.pooling import Pooling, pool
from archtool.train.objectives.teacher import Teacher

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PairwiseSimilarity:
    """Mean squared difference of the two models' cosine similarities over all pairs of a batch."""

    teacher: Teacher
    pooling: Pooling = field(default_factory=Pooling)

    @property
    def identity(self) -> str:
        """The teacher."""
        return self.teacher.identity

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean over the pairs."""
        return similarity_distance(*embeddings(outputs, self.teacher.outputs(batch), batch, self.pooling))


def embeddings(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, pooling: Pooling | None = None
) -> "tuple[Tensor, Tensor]":
    """Both models' unit embeddings (B, D); `InputError` where a model gives none."""
    if "hidden" not in ours or "hidden" not in theirs:
        what = f"the model gives {', '.join(ours)}, the parent {', '.join(theirs)}"
        raise InputError(what, "distillation needs logits, forecast or hidden of both")
    mask_BT = batch.inputs.get("attention_mask")
    a_BD, b_BD = (pool(side, mask_BT, pooling or Pooling()) for side in (ours, theirs))
    return a_BD, b_BD


def similarity_distance(a_BD: "Tensor", b_BE: "Tensor") -> "Tensor":
    """Mean squared difference of ``a aᵀ`` and ``b bᵀ``."""
    return ((a_BD @ a_BD.T - b_BE @ b_BE.T) ** 2).mean()
