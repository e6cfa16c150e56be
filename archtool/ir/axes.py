"""Named axes: what each dimension of each tensor means, and which flat indices a selection keeps.

A dimension is a *product* of factors, outermost first. A factor is the name of an axis (``"b3.attn.kv"``),
a constant (``2``; it has no name and cannot be selected) or a *concatenation* of dimensions. These
constructs write every dimension that the families need:

    grouped-query q rows    dim("b3.attn.kv", "b3.attn.group", "b3.attn.qk")
    rotary q rows           dim("b3.attn.kv", "b3.attn.group", 2, "b3.attn.pairs")
    patch merging columns   dim(4, "s0.width")
    a U-Net skip            dim(concat(dim("s2.width"), dim("s0.width")))
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Concat:
    """A concatenation of dimensions, usable as one factor of a `Dim`."""

    parts: tuple["Dim", ...]


Factor = str | int | Concat


@dataclass(frozen=True)
class Dim:
    """One dimension of a tensor: the product of its factors, outermost first."""

    factors: tuple[Factor, ...]

    def size(self, sizes: Sizes) -> int:
        """The number of entries along this dimension under the given axis sizes."""
        total = 1
        for factor in self.factors:
            total *= factor_size(factor, sizes)
        return total

    def axes(self) -> Iterator[str]:
        """Names of all axes in this dimension, outermost first (repeats possible)."""
        for factor in self.factors:
            if isinstance(factor, str):
                yield factor
            elif isinstance(factor, Concat):
                for part in factor.parts:
                    yield from part.axes()

    def __str__(self) -> str:
        return " × ".join(
            "(" + " ⊕ ".join(map(str, f.parts)) + ")" if isinstance(f, Concat) else str(f) for f in self.factors
        )


def dim(*factors: Factor) -> Dim:
    """A dimension from its factors, outermost first."""
    return Dim(tuple(factors))


def concat(*parts: Dim) -> Concat:
    """A concatenation of dimensions as one factor."""
    return Concat(tuple(parts))


def factor_size(factor: Factor, sizes: Sizes) -> int:
    """Entries that one factor contributes."""
    if isinstance(factor, int):
        return factor
    if isinstance(factor, str):
        return sizes[factor]
    return sum(part.size(sizes) for part in factor.parts)


Keep = tuple[int, ...] | tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Selection:
    """The indices of one axis that stay, in their new order (a permutation keeps all of them).

    Attributes:
        axis: the axis' name.
        keep: kept indices; with ``per``, one tuple of kept indices (all of equal length) for each
            index of the outer axis ``per``, as it stands before any selection.
        per: an axis that stands further out than ``axis`` in every dimension that has both.
    """

    axis: str
    keep: Keep
    per: str | None = None

    def count(self) -> int:
        """The axis' new size."""
        return len(self.keep[0]) if self.per is not None else len(self.keep)  # type: ignore[arg-type]

    def flat(self) -> Sequence[int]:
        """Every kept index, those of all outer indices one after the other."""
        return self.keep if self.per is None else [i for row in self.keep for i in row]  # type: ignore[return-value,union-attr]

    def at(self, outer: Mapping[str, int]) -> Sequence[int]:
        """Kept indices, given the indices of the outer axes."""
        if self.per is None:
            return self.keep  # type: ignore[return-value]
        return self.keep[outer[self.per]]  # type: ignore[return-value]


Selections = Mapping[str, Selection]


def kept_indices(dimension: Dim, sizes: Sizes, selections: Selections) -> list[int]:
    """Flat indices along ``dimension`` that stay under ``selections``, in their new order."""
    return _walk(dimension.factors, sizes, selections, {})


def _walk(factors: tuple[Factor, ...], sizes: Sizes, chosen: Selections, outer: dict[str, int]) -> list[int]:
    if not factors:
        return [0]
    head, rest = factors[0], factors[1:]
    if not rest:
        return list(_kept(head, sizes, chosen, outer))
    stride = Dim(rest).size(sizes)
    if not outer_dependent(rest, chosen):
        inner = _walk(rest, sizes, chosen, outer)
        return [base * stride + i for base in _kept(head, sizes, chosen, outer) for i in inner]
    flat: list[int] = []
    for base in _kept(head, sizes, chosen, outer):
        here = {**outer, head: base} if isinstance(head, str) else outer
        flat.extend(base * stride + i for i in _walk(rest, sizes, chosen, here))
    return flat


def outer_dependent(factors: tuple[Factor, ...], chosen: Selections) -> bool:
    """Whether any axis in ``factors`` keeps other indices for each outer index."""
    return any(axis in chosen and chosen[axis].per is not None for axis in Dim(factors).axes())


def _kept(factor: Factor, sizes: Sizes, chosen: Selections, outer: dict[str, int]) -> Sequence[int]:
    if isinstance(factor, int):
        return range(factor)
    if isinstance(factor, str):
        return chosen[factor].at(outer) if factor in chosen else range(sizes[factor])
    kept: list[int] = []
    start = 0
    for part in factor.parts:
        kept.extend(start + i for i in _walk(part.factors, sizes, chosen, outer))
        start += part.size(sizes)
    return kept


def owners(dimension: Dim, sizes: Sizes, axis: str) -> list[int]:
    """For each flat index along ``dimension``, the index of ``axis`` that it belongs to; -1 where none."""
    total = [-1]
    for factor in reversed(dimension.factors):
        total = _outer(factor, sizes, axis, total)
    return total


def _outer(factor: Factor, sizes: Sizes, axis: str, inner: list[int]) -> list[int]:
    if isinstance(factor, Concat):
        parts = [i for part in factor.parts for i in owners(part, sizes, axis)]
        return [i if i >= 0 else j for i in parts for j in inner]
    if factor == axis:
        return [i for i in range(sizes[axis]) for _ in inner]
    return inner * factor_size(factor, sizes)
