"""Between a file tensor and its canonical pieces: concatenation, stacking, transposes, rotary layout.

Each function is one half of a bijection; `families.names.Entry` says which of them apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archtool.families.names import Entry

if TYPE_CHECKING:
    from torch import Tensor


def split(entry: Entry, tensor: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The canonical pieces (of the given shapes) of a whole file tensor."""
    if entry.stack:
        return [unturn(entry, tensor[i]) for i in range(len(shapes))]
    whole = unturn(entry, tensor.reshape(inner_shape(entry, tensor.shape)))
    if len(shapes) == 1:
        return [whole]
    return list(whole.split([shape[0] for shape in shapes], dim=0))


def join(entry: Entry, pieces: Sequence[Tensor]) -> Tensor:
    """The file tensor of canonical pieces; inverse of `split`."""
    import torch

    if entry.stack:
        return torch.stack([turn(entry, piece) for piece in pieces])
    whole = pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=0)
    turned = turn(entry, whole)
    return turned.reshape((*(1,) * entry.lead, *turned.shape, *(1,) * entry.trail))


def inner_shape(entry: Entry, shape: Sequence[int]) -> tuple[int, ...]:
    """A file tensor's shape without the dimensions of size 1 around it."""
    return tuple(shape[entry.lead : len(shape) - entry.trail])


def unturn(entry: Entry, tensor: Tensor) -> Tensor:
    """A file matrix in canonical orientation and row order."""
    tensor = tensor.T if entry.transpose else tensor
    return _rows(tensor, entry.interleaved, 2) if entry.interleaved else tensor


def turn(entry: Entry, tensor: Tensor) -> Tensor:
    """A canonical matrix as the file holds it."""
    tensor = _rows(tensor, 2, entry.interleaved) if entry.interleaved else tensor
    return tensor.T if entry.transpose else tensor


def _rows(tensor: Tensor, outer: int, inner: int) -> Tensor:
    """Rows (..., outer, inner) → (..., inner, outer)."""
    return tensor.unflatten(0, (-1, outer, inner)).transpose(1, 2).flatten(0, 2)
