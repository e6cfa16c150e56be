"""Bytes that go from file to file as they are: ranges of rows, and within each a range of columns.

That is what a prefix of an axis takes of a tensor that lies in its file as it is used. No tensor is made of it, so that
cutting a submodel out of a checkpoint costs hardly more than copying what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from archtool.checkpoint.store import TensorStore
from archtool.ir.encodings import BITS
from archtool.model.lazy import BLOCK_BYTES, Filed, Lazy, Picked, nbytes


@dataclass(frozen=True)
class Strip:
    """A range of rows of a file tensor, and of each the bytes ``skip`` to ``skip + kept``.

    Attributes:
        store / name / dtype: the file tensor.
        first / count: its rows.
        row_bytes: length of a row in the file.
    """

    store: TensorStore
    name: str
    dtype: str
    first: int
    count: int
    row_bytes: int
    skip: int
    kept: int

    def jobs(self, tensor: str = "") -> list[StripJob]:
        """What reads it block by block; numbers that are not finite are refused as ``tensor``'s, where it is given."""
        step = max(1, BLOCK_BYTES // max(1, self.kept))
        starts = range(0, self.count, step)
        return [StripJob(self, start, min(self.count, start + step), tensor) for start in starts]


@dataclass(frozen=True)
class StripJob:
    """One block of rows of a strip; with the name of a tensor, its values are checked."""

    strip: Strip
    start: int
    stop: int
    tensor: str

    def __call__(self) -> memoryview:
        """Read it."""
        from archtool.checkpoint.values import check_finite_bytes

        strip = self.strip
        rows = slice(strip.first + self.start, strip.first + self.stop) if strip.store.infos[strip.name].shape else None
        columns = slice(strip.skip, strip.skip + strip.kept)
        data = (
            memoryview(strip.store.read_bytes(strip.name))
            if rows is None
            else strip.store.read_block(strip.name, rows, columns)
        )
        if self.tensor:
            check_finite_bytes(data, strip.dtype, self.tensor)
        return data


def strip(lazy: Lazy) -> Strip | None:
    """The strip that is this tensor; None where it has to be computed, turned or gathered."""
    match lazy:
        case Filed() if not lazy.turned and lazy.dtype in BITS and 0 not in lazy.shape:
            rows = lazy.shape[0] if lazy.shape else 1
            row_bytes = nbytes(lazy) // rows
            return Strip(lazy.store, lazy.entry.file, lazy.dtype, lazy.first, rows, row_bytes, 0, row_bytes)
        case Picked():
            found = strip(lazy.base)
            return None if found is None else _narrowed(found, lazy)
    return None


def _narrowed(whole: Strip, lazy: Picked) -> Strip | None:
    """The strip of some rows and columns; None where they are no ranges."""
    ranges = [None if p is None else _range(p) for p in lazy.picks]
    if any(r is None and p is not None for r, p in zip(ranges, lazy.picks, strict=True)) or any(ranges[2:]):
        return None
    rows, columns = [*ranges, None][:2]
    if rows is not None:
        whole = replace(whole, first=whole.first + rows.start, count=len(rows))
    if columns is not None:
        entry_bytes = whole.kept // lazy.base.shape[1]
        whole = replace(whole, skip=whole.skip + columns.start * entry_bytes, kept=len(columns) * entry_bytes)
    return whole


def _range(picks: Sequence[int]) -> range | None:
    """Indices as a range, where each is the one before plus 1."""
    if isinstance(picks, range):
        return picks if picks and picks.step == 1 else None
    steps = (b - a for a, b in pairwise(picks))
    return range(picks[0], picks[-1] + 1) if picks and all(step == 1 for step in steps) else None
