"""Nested models as data: which prefixes of which axes are models too, and which blocks may be left out.

A nested model (MatFormer; Devvrit et al. 2023) is trained so that the first entries of an axis, alone, do the work of
the whole axis at a smaller size. Its `Nesting` says which prefixes those are; a `Submodel` is one choice among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from archtool.errors import InputError
from archtool.ir.architecture import Architecture
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, Select, steps
from archtool.ir.table import alike
from archtool.registry import suggestion

HINT = "Correct nesting.json, or delete it: the model is then not nested."


@dataclass(frozen=True)
class Nesting:
    """What may be cut from a model without another training.

    Attributes:
        levels: (axis, sizes that it may have as a prefix) pairs; sizes ascend, the last is the axis' own.
        depth: names of blocks in the order in which they may be skipped, first to go first.
    """

    levels: tuple[tuple[str, tuple[int, ...]], ...]
    depth: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_names([axis for axis, _ in self.levels], "axis")
        _check_names(self.depth, "block")
        for axis, sizes in self.levels:
            if not sizes or not all(type(n) is int and n > 0 for n in sizes) or sorted(set(sizes)) != list(sizes):
                raise InputError(f"nesting: the sizes of {axis} are {list(sizes)}, not ascending whole numbers", HINT)
        if not self.levels and not self.depth:
            raise InputError("nesting: neither an axis nor a block is nested", HINT)

    @cached_property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Ascending sizes by axis."""
        return dict(self.levels)

    @property
    def granularities(self) -> int:
        """How many uniform submodels there are: as many as the axis with most sizes has, or one per block less."""
        return max((len(sizes) for _, sizes in self.levels), default=len(self.depth) + 1)


@dataclass(frozen=True)
class Submodel:
    """One member of a nested family.

    Attributes:
        counts: (axis, kept first entries) pairs, for every nested axis.
        skipped: the blocks that are left out.
    """

    counts: tuple[tuple[str, int], ...]
    skipped: tuple[str, ...] = ()

    def selections(self, arch: Architecture) -> dict[str, Selection]:
        """The prefixes by axis, without axes that stay whole or go with their block."""
        return {
            axis: Selection(axis, tuple(range(count)))
            for axis, count in self.counts
            if count != arch.size.get(axis) and axis.partition(".")[0] not in self.skipped
        }

    def edit(self, arch: Architecture, method: str) -> Edit:
        """The edit that makes the submodel of the whole one: prefixes, then the blocks that go."""
        chosen = tuple(Select(selection) for selection in self.selections(arch).values())
        return Edit(method, (*chosen, *(Drop(block) for block in self.skipped)))


def full(nesting: Nesting) -> Submodel:
    """The whole model as a member of its family."""
    return uniform(nesting, nesting.granularities - 1)


def uniform(nesting: Nesting, level: int) -> Submodel:
    """Granularity ``level`` of ``nesting.granularities``, smallest first: each axis and the depth as far along."""
    last = nesting.granularities - 1
    if not 0 <= level <= last:
        raise InputError(f"there is no level {level}", f"This model has levels 0 to {last}.")
    counts = ((axis, sizes[_share(level + 1, len(sizes), last + 1) - 1]) for axis, sizes in nesting.levels)
    gone = len(nesting.depth) * (last - level) // max(last, 1)
    return Submodel(tuple(counts), nesting.depth[:gone])


def _share(part: int, size: int, whole: int) -> int:
    """``part / whole`` of ``size``, rounded up."""
    return -(-part * size // whole)


def check_submodel(nesting: Nesting, submodel: Submodel, arch: Architecture) -> None:
    """Raise `InputError` where a submodel is no member of the family: a size, an axis or a block that is not nested."""
    counts = dict(submodel.counts)
    if counts.keys() != nesting.sizes.keys():
        odd = sorted(counts.keys() ^ nesting.sizes.keys())[0]
        what = "is not nested" if odd in counts else "has no size"
        raise InputError(f"{odd} {what}", suggestion(odd, nesting.sizes))
    for axis, count in submodel.counts:
        if count not in nesting.sizes[axis]:
            raise InputError(f"{axis} cannot be {count} long", f"It is nested at {_listed(nesting.sizes[axis])}.")
    for axis, group in alike(arch).items():
        if axis in counts and len({counts[other] for other in group}) > 1:
            raise InputError(f"{', '.join(group)} share a tensor, so they have one size", "Give all the same.")
    for block in submodel.skipped:
        if block not in nesting.depth:
            raise InputError(f"block {block!r} cannot be skipped", f"These can: {', '.join(nesting.depth) or 'none'}.")


def check_nesting(nesting: Nesting, arch: Architecture) -> None:
    """Raise `InputError` where the architecture is not nested so: names, sizes, what its operators allow."""
    groups = alike(arch)
    for axis, sizes in nesting.levels:
        if axis not in arch.size:
            raise InputError(f"nesting: there is no axis {axis!r}", suggestion(axis, arch.size))
        if sizes[-1] != arch.size[axis]:
            what = f"nesting: {axis} has {arch.size[axis]} entries, its largest size is {sizes[-1]}"
            raise InputError(what, HINT)
        for other in groups.get(axis, ()):
            if nesting.sizes.get(other) != sizes:
                what = f"nesting: {axis} and {other} share a tensor, so they need the same sizes"
                raise InputError(what, HINT)
    for block in nesting.depth:
        if block not in arch.index:
            raise InputError(f"nesting: there is no block {block!r}", suggestion(block, arch.index))
    steps(arch, uniform(nesting, 0).edit(arch, "nesting"))
    for level in range(1, nesting.granularities):
        steps(arch, replace(uniform(nesting, level), skipped=()).edit(arch, "nesting"))


def _check_names(names: Sequence[str], what: str) -> None:
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"nesting: an {what} is named by something else than text", HINT)
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"nesting: {what} {twice!r} stands there twice", HINT)


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
