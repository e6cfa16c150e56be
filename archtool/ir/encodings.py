"""Encodings: how a tensor's numbers are stored. Pure data, so that a plan has a cost before any weight exists.

A tensor under an encoding becomes *leaves*: stored tensors named ``<tensor>_<leaf>``. Each encoding says
which leaves, of which dtype and shape, and which selections it takes exactly. The maths is in `model.codec`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}


@dataclass(frozen=True)
class Leaf:
    """One stored tensor of an encoded tensor; ``name`` is ``""`` for the tensor itself."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        total = BITS[self.dtype] // 8
        for n in self.shape:
            total *= n
        return total


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor of two or more dimensions: its first, and all others together."""
    return shape[0], math.prod(shape[1:])


@dataclass(frozen=True)
class Encoding:
    """Base of all encodings."""

    kind: ClassVar[str] = ""

    def leaves(self, shape: tuple[int, ...]) -> tuple[Leaf, ...]:
        """The stored tensors for a tensor of this shape."""
        raise TypeError(f"encoding {self.kind} declares no leaves")

    def refuses(self, shape: tuple[int, ...]) -> str:
        """Why a tensor of this shape cannot be stored so; empty if it can."""
        return ""


@dataclass(frozen=True)
class Dense(Encoding):
    """Numbers as they are, in ``dtype`` (``""``: as in the file they came from; float32 when new)."""

    kind: ClassVar[str] = "dense"
    dtype: str = ""

    def leaves(self, shape: tuple[int, ...]) -> tuple[Leaf, ...]:
        """The tensor itself."""
        return (Leaf("", self.dtype or "F32", shape),)


@dataclass(frozen=True)
class Affine(Encoding):
    """Integers with a scale (and zero point) per row or per group of ``group`` columns (0: the whole row).

    ``w ≈ (q - zero) * scale``; 8 bits are stored one per byte, 4 bits two per byte along the columns (low
    nibble first).
    """

    kind: ClassVar[str] = "affine"
    bits: int = 8
    group: int = 0
    symmetric: bool = True

    def groups(self, columns: int) -> int:
        """Scales per row."""
        return columns // self.group if self.group else 1

    def leaves(self, shape: tuple[int, ...]) -> tuple[Leaf, ...]:
        """``q``, ``scale`` and, if asymmetric, ``zero``; all of them matrices."""
        rows, columns = matrix(shape)
        packed = Leaf("q", "U8", (rows, columns // 2 if self.bits == 4 else columns))
        if self.bits == 8 and self.symmetric:
            packed = Leaf("q", "I8", (rows, columns))
        scale = Leaf("scale", "F32", (rows, self.groups(columns)))
        zero = Leaf("zero", "U8", (rows, self.groups(columns)))
        return (packed, scale) if self.symmetric else (packed, scale, zero)

    def refuses(self, shape: tuple[int, ...]) -> str:
        """Only matrices and kernels; columns must fill whole groups and whole bytes."""
        if len(shape) < 2:
            return f"not a matrix but {len(shape)}-dimensional"
        columns = matrix(shape)[1]
        if self.group and columns % self.group:
            return f"{columns} columns do not fill groups of {self.group}"
        return f"{columns} columns do not fill whole bytes at {self.bits} bits" if columns * self.bits % 8 else ""


ENCODINGS: Mapping[str, type[Encoding]] = {e.kind: e for e in (Dense, Affine)}
DENSE = Dense()


@dataclass(frozen=True)
class EncodingPlan:
    """Which tensor is stored how; tensors that it does not name are dense in their own dtype."""

    entries: tuple[tuple[str, Encoding], ...] = ()

    @cached_property
    def table(self) -> Mapping[str, Encoding]:
        """Encodings by storage id."""
        return dict(self.entries)

    def of(self, storage: str) -> Encoding:
        """The encoding of a tensor."""
        return self.table.get(storage, DENSE)

    def with_entries(self, changes: Mapping[str, Encoding]) -> EncodingPlan:
        """This plan with other encodings for some tensors; ``Dense()`` removes an entry."""
        merged = {**self.table, **changes}
        return EncodingPlan(tuple(sorted((k, e) for k, e in merged.items() if e != DENSE)))
