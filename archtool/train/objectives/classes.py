"""Cross entropy of class labels, in nats; of two labels with their shares where images are mixed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.evaluate.loop import check_labels, output, target

if TYPE_CHECKING:
    from torch import Tensor


def class_loss(outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
    """Mean over the batch of ``-log p(label)``, from ``logits`` (B, N)."""
    import torch.nn.functional as F

    logits_BN, labels_B = output(outputs, "logits", "training"), target(batch, "labels", "training")
    check_labels(labels_B, logits_BN.shape[-1])
    if "other_labels" not in batch.targets:
        return F.cross_entropy(logits_BN.float(), labels_B)
    own_B, other_B = (
        F.cross_entropy(logits_BN.float(), labels, reduction="none")
        for labels in (labels_B, batch.targets["other_labels"])
    )
    share_B = batch.targets["label_share"]
    return (share_B * own_B + (1 - share_B) * other_B).mean()
