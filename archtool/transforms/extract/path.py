"""Submodels that are chosen without any measurement: the same level everywhere, and MatFormer's rising widths.

Source: Devvrit et al. 2023 (MatFormer), section 3.3: widths that do not fall from layer to layer, with the smallest
change between layers. A submodel between two uniform ones then has the narrower level first and the wider one behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archtool.budget.language import Budget
from archtool.transforms.extract.grid import Grid, Picks

Price = Callable[[Picks], Mapping[str, float]]
"""The exact costs of a submodel by metric name."""


def uniform_path(grid: Grid) -> list[Picks]:
    """The uniform submodels, narrowest first; a site with fewer levels goes along in proportion."""
    return [_rising(grid, level, ()) for level in range(_levels(grid))]


def rising_path(grid: Grid) -> list[Picks]:
    """The uniform submodels and, between each two, those whose last blocks have the wider level; narrowest first."""
    blocks = list(dict.fromkeys(min(site.blocks) for site in grid.sites))
    order = {block: i for i, block in enumerate(dict.fromkeys(b for site in grid.sites for b in _in_order(site.axes)))}
    blocks.sort(key=lambda block: order[block])
    path = uniform_path(grid)[:1]
    for level in range(_levels(grid) - 1):
        path += [_rising(grid, level, blocks[n:]) for n in range(len(blocks) - 1, -1, -1)]
    return list(dict.fromkeys(path))


def largest(path: Sequence[Picks], budget: Budget, price: Price) -> Picks | None:
    """The last submodel of a path that meets a budget."""
    return next((picks for picks in reversed(path) if not budget.check(price(picks))), None)


def _in_order(axes: Sequence[str]) -> list[str]:
    return [axis.partition(".")[0] for axis in axes]


def _levels(grid: Grid) -> int:
    return max((len(site.sizes) for site in grid.sites), default=1)


def _rising(grid: Grid, level: int, wider: Sequence[str]) -> Picks:
    """Every site at a level, those of some blocks at the next one."""
    count, beyond = _levels(grid), set(wider)
    levels = (-(-(level + 1 + bool(site.blocks & beyond)) * len(site.sizes) // count) - 1 for site in grid.sites)
    return (*levels, 0)
