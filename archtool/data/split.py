"""Seeded splits and subsets. The same seed gives the same rows, always in ascending order."""

from typing import TYPE_CHECKING, Any

from archtool.data.spec import SPLITS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def split_rows(count: int, split: str, fractions: tuple[float, float, float], seed: int) -> "NDArray[Any]":
    """Rows of a split of ``count`` rows, by a seeded permutation; the three splits partition the rows."""
    import numpy as np

    if not split:
        return np.arange(count)
    order = np.random.default_rng(seed).permutation(count)
    begin, end = bounds(count, split, fractions)
    return np.sort(order[begin:end])


def bounds(count: int, split: str, fractions: tuple[float, float, float]) -> tuple[int, int]:
    """Begin and end of a split when ``count`` things in order are cut by the fractions."""
    place = SPLITS.index(split)
    edges = [0, round(count * fractions[0]), round(count * (fractions[0] + fractions[1])), count]
    return edges[place], edges[place + 1]


def limit_rows(count: int, limit: int | None, seed: int) -> "NDArray[Any]":
    """At most ``limit`` of ``count`` rows, drawn without replacement, ascending."""
    import numpy as np

    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 1]).choice(count, size=limit, replace=False))
