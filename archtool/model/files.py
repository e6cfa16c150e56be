"""Which file tensors hold a checkpoint's leaves: the family's name table, expanded by the encoding plan.

A dense entry is one file tensor in the family's layout. An encoded entry becomes one file tensor per leaf
(``"….weight_q"``, ``"….weight_scale"``), in canonical orientation, rows of fused pieces one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from archtool.errors import InputError
from archtool.families.names import Entry
from archtool.ir.architecture import Architecture
from archtool.ir.encodings import Dense, EncodingPlan
from archtool.ir.table import shape, stored
from archtool.model.checkpoint import leaf_name


@dataclass(frozen=True)
class FileTensor:
    """A file tensor: its layout (pieces are leaf names) and the pieces' shapes."""

    entry: Entry
    shapes: tuple[tuple[int, ...], ...]
    dtype: str = ""

    @property
    def name(self) -> str:
        """Name in the file."""
        return self.entry.file

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the file."""
        return self.entry.file_shape(self.shapes)


def file_tensors(arch: Architecture, plan: EncodingPlan, entries: Sequence[Entry]) -> Iterator[FileTensor]:
    """Every file tensor of a checkpoint; ``dtype`` is set where the encoding fixes it."""
    specs = stored(arch)
    for entry in entries:
        shapes = tuple(shape(specs[piece], arch) for piece in entry.pieces)
        encodings = {plan.of(piece) for piece in entry.pieces}
        if all(isinstance(e, Dense) for e in encodings):
            yield FileTensor(entry, shapes)
        elif len(encodings) > 1:
            raise InputError(
                f"{', '.join(entry.pieces)} are one tensor ({entry.file}) in this family and need one encoding",
                "Give all of them the same scheme.",
            )
        else:
            yield from _encoded(entry, shapes, plan)


def _encoded(entry: Entry, shapes: tuple[tuple[int, ...], ...], plan: EncodingPlan) -> Iterator[FileTensor]:
    per_piece = [plan.of(piece).leaves(s) for piece, s in zip(entry.pieces, shapes, strict=True)]
    for leaves in zip(*per_piece, strict=True):
        pieces = tuple(leaf_name(piece, leaf) for piece, leaf in zip(entry.pieces, leaves, strict=True))
        plain = replace(
            entry, file=f"{entry.file}_{leaves[0].name}", pieces=pieces, transpose=False, interleaved=0, lead=0, trail=0
        )
        yield FileTensor(plain, tuple(leaf.shape for leaf in leaves), leaves[0].dtype)
