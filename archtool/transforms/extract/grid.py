"""The submodels of a nested model as points of a grid: a level for each site, and how many blocks are skipped.

Source: Devvrit et al. 2023 (MatFormer), section 3.3: every combination of nested widths is a model (Mix'n'Match).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from archtool.errors import InputError
from archtool.ir.architecture import Architecture
from archtool.ir.nesting import Nesting, Submodel, check_submodel
from archtool.ir.table import alike

Picks = tuple[int, ...]
"""The level of each site (0: narrowest), then the number of skipped blocks."""


@dataclass(frozen=True)
class Site:
    """Axes that are cut alike because a tensor is shared, and the sizes that they may have."""

    axes: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def blocks(self) -> frozenset[str]:
        """The blocks to which the axes belong."""
        return frozenset(axis.partition(".")[0] for axis in self.axes)


@dataclass(frozen=True)
class Grid:
    """All submodels of a nested model; of those that differ in skipped blocks only, one."""

    nesting: Nesting
    sites: tuple[Site, ...]

    @property
    def depth(self) -> tuple[str, ...]:
        """Blocks in the order in which they go."""
        return self.nesting.depth

    @property
    def full(self) -> Picks:
        """The whole model."""
        return (*self._tops, 0)

    @cached_property
    def _tops(self) -> Picks:
        return tuple(len(site.sizes) - 1 for site in self.sites)

    @cached_property
    def _gone(self) -> tuple[frozenset[int], ...]:
        """For each number of skipped blocks: the sites that go with them."""
        skipped = (frozenset(self.depth[:k]) for k in range(len(self.depth) + 1))
        return tuple(frozenset(i for i, s in enumerate(self.sites) if s.blocks <= blocks) for blocks in skipped)

    def live(self, skipped: int) -> list[int]:
        """The sites that are left when so many blocks are skipped."""
        return [i for i in range(len(self.sites)) if i not in self._gone[skipped]]

    def __len__(self) -> int:
        lives = (self.live(k) for k in range(len(self.depth) + 1))
        return sum(prod(len(self.sites[i].sizes) for i in live) for live in lives)

    def canonical(self, picks: Picks) -> Picks:
        """The same submodel with the sites of skipped blocks at their whole size."""
        gone = self._gone[picks[-1]]
        return (*(self._tops[i] if i in gone else level for i, level in enumerate(picks[:-1])), picks[-1])

    def members(self) -> Iterator[Picks]:
        """Every submodel once, narrow ones first."""
        for skipped in range(len(self.depth), -1, -1):
            gone = self._gone[skipped]
            levels = ((top,) if i in gone else range(top + 1) for i, top in enumerate(self._tops))
            yield from ((*picks, skipped) for picks in product(*levels))

    def one_change(self) -> Iterator[Picks]:
        """The whole model, then each that differs from it at one site, or by skipped blocks alone."""
        yield self.full
        for i, top in enumerate(self._tops):
            yield from ((*self.full[:i], level, *self.full[i + 1 :]) for level in range(top - 1, -1, -1))
        yield from (self.canonical((*self._tops, k)) for k in range(1, len(self.depth) + 1))

    def submodel(self, picks: Picks) -> Submodel:
        """What the picks stand for."""
        counts = {a: s.sizes[level] for s, level in zip(self.sites, picks, strict=False) for a in s.axes}
        return Submodel(tuple((axis, counts[axis]) for axis in self.nesting.sizes), self.depth[: picks[-1]])

    def picks(self, submodel: Submodel, arch: Architecture) -> Picks:
        """The picks of a submodel; `InputError` where it is no member."""
        check_submodel(self.nesting, submodel, arch)
        skipped = len(submodel.skipped)
        if set(submodel.skipped) != set(self.depth[:skipped]):
            what = f"{', '.join(submodel.skipped)} cannot be skipped"
            raise InputError(what, f"Blocks go in this order: {', '.join(self.depth)}.")
        counts = dict(submodel.counts)
        levels = (site.sizes.index(counts[site.axes[0]]) for site in self.sites)
        return self.canonical((*levels, skipped))


def grid_of(nesting: Nesting, arch: Architecture, fixed: Sequence[str] = ()) -> Grid:
    """The submodels of a nested model, without choices for ``fixed`` axes: they stay whole."""
    groups = alike(arch)
    tied = dict.fromkeys(groups.get(axis, (axis,)) for axis in nesting.sizes)
    stays = frozenset(fixed)
    sites = (Site(axes, nesting.sizes[axes[0]][-1 if stays & set(axes) else 0 :]) for axes in tied)
    return Grid(nesting, tuple(sites))


def label(picks: Picks) -> str:
    """The picks as a name: ``3.2.1-1`` is levels 3, 2 and 1 and one skipped block."""
    levels = ".".join(map(str, picks[:-1]))
    return f"{levels}-{picks[-1]}" if picks[-1] else levels
