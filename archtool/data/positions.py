"""Which rows of a model's logits count, and how maps are read as rows: shared by losses and metrics."""

from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.data.dataset import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


def by_position(values: "Tensor") -> "Tensor":
    """What leaves as an image, a row per cell: (B, C, H, W) → (B, H × W, C); other shapes pass."""
    return values.flatten(2).transpose(1, 2) if values.ndim == 4 else values


def counted_positions(batch: Batch, logits: "Tensor") -> "Tensor":
    """Which rows of the logits count: examples, scored tokens, or unpadded tokens."""
    import torch

    if logits.ndim == 3 and "next_ids" in batch.targets:
        return batch.targets["next_ids"] != IGNORE
    if logits.ndim == 3 and "attention_mask" in batch.inputs:
        return batch.inputs["attention_mask"].bool()
    return torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
