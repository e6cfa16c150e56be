"""Multilinear interpolation on a grid of integer sizes; never outside it (pure functions)."""

import bisect
import itertools
import math
from collections.abc import Mapping

from archtool.errors import InputError

Grid = Mapping[tuple[tuple[str, int], ...], float]
"""Sizes, sorted by axis → value."""


def interpolate(grid: Grid, sizes: Mapping[str, int], name: str) -> float:
    """The value at ``sizes``: the mean of the surrounding grid points, weighted by closeness.

    Args:
        grid: measured points; a full grid around ``sizes`` is needed.
        sizes: axis → size.
        name: what is interpolated, for messages.

    Raises:
        InputError: nothing was measured, other axes were, ``sizes`` lies outside, or a corner is missing.
    """
    axes = sorted(sizes)
    points = [dict(point) for point in grid if [axis for axis, _ in point] == axes]
    if not points:
        known = sorted({", ".join(axis for axis, _ in point) or "none" for point in grid})
        raise InputError(f"{name} was never measured over the axes {axes}; measured axes: {known or 'nothing'}")
    brackets = [_bracket(sorted({point[axis] for point in points}), sizes[axis], f"{name}: {axis}") for axis in axes]
    value = 0.0
    for corner in itertools.product(*brackets):
        key = tuple(zip(axes, (size for size, _ in corner), strict=True))
        if key not in grid:
            raise InputError(f"{name} was not measured at {dict(key)}, a corner around {dict(sizes)}")
        value += grid[key] * math.prod(weight for _, weight in corner)
    return value


def _bracket(known: list[int], size: int, name: str) -> list[tuple[int, float]]:
    """The measured sizes around ``size`` with their weights; one where it was measured itself."""
    if not known[0] <= size <= known[-1]:
        raise InputError(
            f"{name} = {size} lies outside the measured range {known[0]} to {known[-1]}",
            hint="measure a wider grid; latencies are not extrapolated",
        )
    above = bisect.bisect_left(known, size)
    if known[above] == size:
        return [(size, 1.0)]
    low, high = known[above - 1], known[above]
    share = (size - low) / (high - low)
    return [(low, 1 - share), (high, share)]
