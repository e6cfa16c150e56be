"""Which layer of a model learns from which layer of its teacher, and which of their tokens count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from archtool.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.data.batches import Batch

LayerMap = Literal["last", "even"]
T = TypeVar("T")


def matched(ours: Sequence[T], theirs: Sequence[T], how: LayerMap, what: str) -> tuple[tuple[T, T], ...]:
    """(ours, theirs) pairs: the last of both, or each of ours with the one as far through the teacher.

    Raises:
        InputError: one of the models has no such layer.
    """
    if not ours or not theirs:
        raise InputError(f"{'the model' if not ours else 'the teacher'} has no {what} to match", "use another loss")
    if how == "last":
        return ((ours[-1], theirs[-1]),)
    last = [(i + 1) * len(theirs) / len(ours) for i in range(len(ours))]
    return tuple((mine, theirs[max(0, round(at) - 1)]) for mine, at in zip(ours, last, strict=True))


def counted_tokens(batch: "Batch", x_BTD: "Tensor") -> "Tensor":
    """Which tokens (B, T) of a stream are no padding; all of them where the stream has no mask of its length."""
    import torch

    shape = x_BTD.shape[:2]
    for name in ("attention_mask", "decoder_attention_mask"):
        mask_BT = batch.inputs.get(name)
        if mask_BT is not None and mask_BT.shape == shape:
            return mask_BT.bool()
    return torch.ones(shape, dtype=torch.bool, device=x_BTD.device)
