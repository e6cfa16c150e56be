"""Next-token cross entropy of language models, in nats per scored token."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.data.dataset import IGNORE
from archtool.errors import InputError
from archtool.evaluate.loop import check_labels, output, target

if TYPE_CHECKING:
    from torch import Tensor


def next_token_loss(outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
    """Mean over scored tokens of ``-log p(next)``, from ``logits`` (B, T, V); 0 where none is scored."""
    import torch.nn.functional as F

    logits_BTV, next_BT = output(outputs, "logits", "training"), target(batch, "next_ids", "training")
    if logits_BTV.shape[:-1] != next_BT.shape:
        shape = tuple(logits_BTV.shape)
        raise InputError(f"logits {shape} where one per token is needed", "the model is no language model")
    check_labels(next_BT, logits_BTV.shape[-1])
    total = F.cross_entropy(logits_BTV.flatten(0, 1).float(), next_BT.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / (next_BT != IGNORE).sum().clamp(min=1)
