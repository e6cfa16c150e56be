"""Checks of the values that a checkpoint holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archtool.errors import InputError

if TYPE_CHECKING:
    import torch

_CHUNK_NUMEL = 2**22


def check_finite(tensor: "torch.Tensor", name: str) -> None:
    """Refuse a tensor with NaN or infinite values; takes memory for a few million elements at a time.

    Raises:
        InputError: some values are not finite; the message counts them.
    """
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    nan = infinite = 0
    for chunk in _chunks(tensor.detach()):
        values = chunk.float() if chunk.element_size() == 1 else chunk
        if not bool(torch.isfinite(values).all()):
            nan += int(torch.isnan(values).sum())
            infinite += int(torch.isinf(values).sum())
    if nan or infinite:
        raise InputError(
            f"Tensor {name!r} holds {nan} NaN and {infinite} infinite values of {tensor.numel()}.",
            hint="The checkpoint is damaged or its training diverged: use an earlier one.",
        )


def _chunks(tensor: "torch.Tensor") -> Iterator["torch.Tensor"]:
    """Pieces of a tensor of at most a few million elements, without copying all of it."""
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(_CHUNK_NUMEL)
    elif tensor.numel() <= _CHUNK_NUMEL:
        yield tensor
    else:
        for row in tensor.unbind(0):
            yield from _chunks(row)
