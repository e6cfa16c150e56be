"""Distillation from a parent (Hinton, Vinyals & Dean 2015), without labels.

What is matched follows from what both models give, as in the task ``agreement``: logits (KL(parent || model) at a
temperature, times its square, per example or per token that counts), else a forecast (squared error), else
sentence embeddings (mean-pooled: their cosine distance where widths are equal, and the similarities within the batch).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.data.positions import by_position, counted_positions
from archtool.errors import InputError, UsageError
from archtool.evaluate.pooling import Pooling, pool

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Distillation:
    """The loss that is zero where the model equals its parent.

    Args:
        parent: put into eval mode; never changed.
        temperature: softens the distributions of logits; 1 compares them as they are.
    """

    parent: "nn.Module"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}", "give a number above 0")
        self.parent.eval().requires_grad_(False)

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """The mean distance to the parent's outputs on this batch."""
        import torch

        with torch.no_grad():
            wanted = self.parent(**batch.inputs)
        return distance(outputs, wanted, batch, self.temperature)


def distance(
    ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch, temperature: float
) -> "Tensor":
    """How far one model's outputs are from another's; see the top of this file for what is compared."""
    import torch

    if "logits" in ours and "logits" in theirs:
        mine, wanted = by_position(ours["logits"]), by_position(theirs["logits"])
        return softened_kl(mine, wanted, counted_positions(batch, wanted), temperature)
    if "forecast" in ours and "forecast" in theirs:
        return torch.nn.functional.mse_loss(ours["forecast"].float(), theirs["forecast"].float())
    return embedding_distance(ours, theirs, batch)


def softened_kl(ours: "Tensor", theirs: "Tensor", counts: "Tensor", temperature: float) -> "Tensor":
    """``T^2 * KL(softmax(theirs / T) || softmax(ours / T))``: mean over the positions that count.

    Args:
        ours: logits (..., N) of the model.
        theirs: logits (..., N) of the parent.
        counts: (...) which rows count.
        temperature: T.
    """
    import torch

    if ours.shape != theirs.shape:
        shapes = f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
        raise InputError(f"logits of the model and its parent differ in shape: {shapes}", "compare like with like")
    log_q, log_p = (torch.log_softmax(x[counts].float() / temperature, -1) for x in (ours, theirs))
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    return temperature**2 * kl.sum() / max(1, len(kl))


def embedding_distance(ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
    """Squared differences of the similarities within the batch, plus ``1 - cosine`` where widths are equal."""
    if "hidden" not in ours or "hidden" not in theirs:
        what = f"the model gives {', '.join(ours)}, the parent {', '.join(theirs)}"
        raise InputError(what, "distillation needs logits, forecast or hidden of both")
    mask_BT = batch.inputs.get("attention_mask")
    a_BD, b_BD = (pool(side, mask_BT, Pooling()) for side in (ours, theirs))
    similar = ((a_BD @ a_BD.T - b_BD @ b_BD.T) ** 2).mean()
    return similar if a_BD.shape != b_BD.shape else similar + (1 - (a_BD * b_BD).sum(-1)).mean()
