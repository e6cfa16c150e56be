"""Name tables: which file tensor holds which canonical tensors, in which layout.

One table serves both directions. An `Entry` says that a file tensor is made of one or more canonical tensors:
concatenated along their rows (fused), or stacked along a new first dimension; perhaps transposed (GPT-2's
``Conv1D``), with interleaved rotary rows, or with leading or trailing dimensions of size 1 (kernels of one cell).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        file: its name in the file.
        pieces: storage ids of the canonical tensors in it, in order.
        stack: pieces are stacked along a new first dimension instead of concatenated along the first.
        transpose: the file holds the matrix as (in, out).
        lead / trail: leading / trailing dimensions of size 1 in the file.
        interleaved: rotary pairs per head; the file's rows are (pairs, 2) where ours are (2, pairs); 0: no.
    """

    file: str
    pieces: tuple[str, ...]
    stack: bool = False
    transpose: bool = False
    lead: int = 0
    interleaved: int = 0
    trail: int = 0

    def file_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Shape in the file, from the shapes of the pieces."""
        first = shapes[0]
        if self.stack:
            inner = first[::-1] if self.transpose else first
            return (len(shapes), *inner)
        rows = sum(s[0] for s in shapes) if first else 1
        whole = (rows, *first[1:])
        return (*(1,) * self.lead, *(whole[::-1] if self.transpose else whole), *(1,) * self.trail)


def entry(file: str, *pieces: str, transpose: bool = False, lead: int = 0, interleaved: int = 0) -> Entry:
    """A file tensor made of ``pieces``, concatenated where there are several."""
    return Entry(file, pieces, False, transpose, lead, interleaved)


def linear(file: str, *parts: str, bias: bool, transpose: bool = False, trail: int = 0) -> list[Entry]:
    """Weight and, where there is one, bias of a linear layer (fused when several parts are given)."""
    entries = [Entry(f"{file}.weight", tuple(f"{p}.weight" for p in parts), transpose=transpose, trail=trail)]
    return [*entries, entry(f"{file}.bias", *(f"{p}.bias" for p in parts))] if bias else entries
