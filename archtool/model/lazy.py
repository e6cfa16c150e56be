"""Tensors that are read when they are needed, in blocks of rows, and edited on the way.

A `Lazy` is a shape, a safetensors dtype and a way to get rows. Edits wrap it (`Picked`, `EncodedLeaf`), so that an
edited checkpoint larger than memory streams from file to file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from archtool.checkpoint.store import TensorStore
from archtool.families.names import Entry
from archtool.ir.encodings import BITS, Encoding

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 64 * 2**20


class Lazy(Protocol):
    """A tensor to be."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> str:
        """Its safetensors dtype."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Entries ``start`` to ``stop`` of the first dimension."""


def load(lazy: Lazy) -> Tensor:
    """The whole tensor, in memory of its own."""
    tensor = lazy.rows(0, lazy.shape[0]) if lazy.shape else lazy.rows(0, 1)
    return tensor.clone() if tensor._base is not None or isinstance(lazy, Held) else tensor


def blocks(lazy: Lazy, block_bytes: int = BLOCK_BYTES) -> Iterator[Tensor]:
    """The tensor in blocks of rows of about ``block_bytes``."""
    count = lazy.shape[0] if lazy.shape else 1
    per_row = max(1, nbytes(lazy) // max(1, count))
    step = max(1, block_bytes // per_row)
    for start in range(0, count, step):
        yield lazy.rows(start, min(count, start + step))


def nbytes(lazy: Lazy) -> int:
    """Bytes of the tensor in its stored dtype."""
    total = BITS[lazy.dtype] // 8
    for n in lazy.shape:
        total *= n
    return total


@dataclass(frozen=True)
class Held:
    """A tensor in memory."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> str:
        """Its safetensors dtype."""
        from archtool.checkpoint.dtypes import safetensors_dtype

        return safetensors_dtype(self.tensor.dtype)

    def rows(self, start: int, stop: int) -> Tensor:
        """A slice."""
        return self.tensor[start:stop] if self.tensor.dim() else self.tensor


@dataclass(frozen=True)
class Filed:
    """A piece of a file tensor: rows of a fused one, an item of a stacked one, perhaps transposed or permuted.

    Attributes:
        store / entry: where it lies and in which layout.
        index: which piece of the entry.
        first: its first row in the fused tensor.
        shape: its canonical shape.
    """

    store: TensorStore
    entry: Entry
    index: int
    first: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """As in the file."""
        return self.store.infos[self.entry.file].dtype

    def rows(self, start: int, stop: int) -> Tensor:
        """Reads no more than these rows where the layout allows it."""
        if self.entry.stack or self.entry.transpose or self.entry.interleaved or self.entry.lead:
            return self._whole[start:stop] if self.shape else self._whole
        return self.store.read(self.entry.file, slice(self.first + start, self.first + stop) if self.shape else None)

    @property
    def _whole(self) -> Tensor:
        from archtool.model.layout import unturn

        entry = self.entry
        if entry.stack:
            return unturn(entry, self.store.read(entry.file, slice(self.index, self.index + 1))[0])
        tensor = self.store.read(entry.file)
        whole = unturn(entry, tensor.reshape(tensor.shape[entry.lead :]))
        return whole[self.first : self.first + self.shape[0]]


@dataclass(frozen=True)
class Picked:
    """Some indices of each dimension of another lazy tensor; None keeps a dimension whole."""

    base: Lazy
    picks: tuple[Sequence[int] | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes after picking."""
        return tuple(n if p is None else len(p) for n, p in zip(self.base.shape, self.picks, strict=True))

    @property
    def dtype(self) -> str:
        """The base's."""
        return self.base.dtype

    def rows(self, start: int, stop: int) -> Tensor:
        """Reads the rows between the first and the last that are wanted."""
        wanted = range(start, stop) if self.picks[0] is None else self.picks[0][start:stop]
        low, high = min(wanted), max(wanted) + 1
        tensor = self.base.rows(low, high)
        if high - low != len(wanted) or list(wanted) != list(range(low, high)):
            tensor = pick(tensor, 0, [i - low for i in wanted])
        for axis, picks in enumerate(self.picks[1:], start=1):
            if picks is not None:
                tensor = pick(tensor, axis, picks)
        return tensor


def pick(tensor: Tensor, axis: int, picks: Sequence[int]) -> Tensor:
    """Indices of one dimension; a view where they are a range."""
    import torch

    if len(picks) and picks[-1] - picks[0] == len(picks) - 1 and list(picks) == list(range(picks[0], picks[-1] + 1)):
        return tensor.narrow(axis, picks[0], len(picks))
    return tensor.index_select(axis, torch.tensor(picks, dtype=torch.int64, device=tensor.device))


class Leaves:
    """The leaves of one tensor under an encoding, made block by block in one pass over its rows.

    Small leaves (scales, zero points) are remembered while the big one streams, so that the source is read once.
    """

    def __init__(self, base: Lazy, encoding: Encoding) -> None:
        self.base, self.encoding = base, encoding

    @cached_property
    def small(self) -> dict[str, Tensor]:
        """All leaves but ``q``, whole."""
        import torch

        parts: dict[str, list[Tensor]] = {}
        for block in blocks(self.base):
            for name, tensor in self._encode(block).items():
                if name != "q":
                    parts.setdefault(name, []).append(tensor)
        return {name: torch.cat(tensors) for name, tensors in parts.items()}

    def q_rows(self, start: int, stop: int) -> Tensor:
        """Rows of the integers; remembers the small leaves when rows arrive from first to last."""
        import torch

        made = self._encode(self.base.rows(start, stop))
        if "small" not in self.__dict__:
            pending = self.__dict__.setdefault("_pending", [])
            if start == sum(len(m["scale"]) for m in pending):
                pending.append({name: t for name, t in made.items() if name != "q"})
            if stop == self.base.shape[0] and sum(len(m["scale"]) for m in pending) == stop:
                self.__dict__["small"] = {n: torch.cat([m[n] for m in pending]) for n in pending[0]}
        return made["q"]

    def _encode(self, block: Tensor) -> dict[str, Tensor]:
        from archtool.model.codec import encode

        return encode(self.encoding, block)


@dataclass(frozen=True)
class EncodedLeaf:
    """One leaf of an encoded tensor."""

    leaves: Leaves
    name: str
    shape: tuple[int, ...]
    dtype: str

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows of the leaf."""
        return self.leaves.q_rows(start, stop) if self.name == "q" else self.leaves.small[self.name][start:stop]


@dataclass(frozen=True)
class Decoded:
    """A dense float32 tensor from stored leaves."""

    encoding: Encoding
    leaves: tuple[tuple[str, Lazy], ...]
    shape: tuple[int, ...]
    dtype: str = "F32"

    def rows(self, start: int, stop: int) -> Tensor:
        """Decoded rows."""
        from archtool.model.codec import decode

        return decode(self.encoding, {n: leaf.rows(start, stop) for n, leaf in self.leaves}, self.shape[-1])
