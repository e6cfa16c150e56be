"""Tensors that are read when they are needed, in blocks of rows, and edited on the way.

A `Lazy` is a shape, a safetensors dtype and a way to get rows. Edits wrap it (`Picked`, `EncodedLeaf`), so that an
edited checkpoint larger than memory streams from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

from archtool.checkpoint.store import TensorStore
from archtool.families.names import Entry
from archtool.ir.encodings import BITS, Encoding, matrix
from archtool.model.ahead import InTurn, ahead
from archtool.model.pick import Index, index_of, take

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 4 * 2**20


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


def blocks(lazy: Lazy, block_bytes: int = 0) -> Iterator[Tensor]:
    """The tensor in blocks of rows, made ahead; see `jobs`."""
    made = jobs(lazy, block_bytes)
    return ahead(made) if len(made) > 1 else (job() for job in made)


def jobs(lazy: Lazy, block_bytes: int = 0) -> list[Callable[[], Tensor]]:
    """What makes the tensor block by block of rows; in one where rows cannot be read singly.

    What has to be read for a block is about ``block_bytes`` (0: `BLOCK_BYTES`).
    """
    count = lazy.shape[0] if lazy.shape else 1
    if not by_rows(lazy) or _after_others(lazy):
        return [InTurn(partial(lazy.rows, 0, count))]
    per_row = max(1, _bytes_read(lazy) // max(1, count))
    step = max(1, (block_bytes or BLOCK_BYTES) // per_row)
    return [partial(lazy.rows, start, min(count, start + step)) for start in range(0, count, step)]


def _after_others(lazy: Lazy) -> bool:
    """Whether it is known once another tensor has been made: scales come with their integers."""
    match lazy:
        case Picked():
            return _after_others(lazy.base)
        case EncodedLeaf():
            return lazy.name != "q"
    return False


def by_rows(lazy: Lazy) -> bool:
    """Whether some rows cost less than all: not where a file's layout has to be turned for them."""
    match lazy:
        case Filed():
            return not lazy.turned
        case Picked():
            return by_rows(lazy.base)
        case EncodedLeaf():
            return by_rows(lazy.leaves.base)
        case Decoded():
            return all(by_rows(leaf) for _, leaf in lazy.leaves)
    return True


def _bytes_read(lazy: Lazy) -> int:
    """Bytes that reading the whole tensor takes."""
    match lazy:
        case Picked():
            return _bytes_read(lazy.base)
        case EncodedLeaf(name="q"):
            return _bytes_read(lazy.leaves.base)
    return nbytes(lazy)


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

    @property
    def turned(self) -> bool:
        """Whether the file's layout is another, so that any row takes reading the whole."""
        return bool(self.entry.stack or self.entry.transpose or self.entry.interleaved or self.entry.lead)

    def rows(self, start: int, stop: int) -> Tensor:
        """Reads no more than these rows where the layout allows it."""
        if self.turned:
            return self._whole[start:stop] if self.shape else self._whole
        tensor = self.store.read(self.entry.file, slice(self.first + start, self.first + stop) if self.shape else None)
        return tensor.reshape(tensor.shape[: tensor.dim() - self.entry.trail])

    @property
    def _whole(self) -> Tensor:
        from archtool.model.layout import inner_shape, unturn

        entry = self.entry
        if entry.stack:
            return unturn(entry, self.store.read(entry.file, slice(self.index, self.index + 1))[0])
        tensor = self.store.read(entry.file)
        whole = unturn(entry, tensor.reshape(inner_shape(entry, tensor.shape)))
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
        if len(wanted) < high - low or list(wanted) != list(range(low, high)):
            tensor = take(tensor, 0, index_of([i - low for i in wanted]))
        for axis, index in self._columns:
            tensor = take(tensor, axis, index)
        return tensor

    @cached_property
    def _columns(self) -> tuple[tuple[int, Index], ...]:
        return tuple((axis, index_of(p)) for axis, p in enumerate(self.picks) if axis and p is not None)


class Leaves:
    """The leaves of one tensor under an encoding, made block by block in one pass over its rows.

    Small leaves (scales, zero points) are remembered while the big one streams, so that the source is read once.
    """

    def __init__(self, base: Lazy, encoding: Encoding) -> None:
        self.base, self.encoding = base, encoding
        self._seen: dict[int, dict[str, Tensor]] = {}

    @cached_property
    def small(self) -> dict[str, Tensor]:
        """All leaves but ``q``, whole; the source is read again where blocks of ``q`` did not cover every row."""
        import torch

        parts = self._covering() or [self._encoded(block)[1] for block in blocks(self.base)]
        self._seen.clear()
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def q_rows(self, start: int, stop: int) -> Tensor:
        """Rows of the integers; remembers the small leaves of these rows."""
        q, small = self._encoded(self.base.rows(start, stop))
        if "small" not in self.__dict__:
            self._seen[start] = small
        return q

    def _encoded(self, block: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        from archtool.model.codec import encode

        made = encode(self.encoding, block.flatten(1))
        return made.pop("q"), made

    def _covering(self) -> list[dict[str, Tensor]]:
        """Remembered leaves of blocks that follow each other from the first row to the last, or nothing."""
        at, parts = 0, []
        while at < self.base.shape[0] and at in self._seen:
            parts.append(self._seen[at])
            at += len(parts[-1]["scale"])
        return parts if at == self.base.shape[0] else []


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

        leaves = {name: leaf.rows(start, stop) for name, leaf in self.leaves}
        return decode(self.encoding, leaves, matrix(self.shape)[1]).reshape(-1, *self.shape[1:])
