"""The tokens of a multivariate series as a table of variates and tokens, and one vector of each variate.

Legend: `B` batch, `V` variates, `T` tokens of a variate, `D` width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archtool.ir.axes import Dim
from archtool.ir.parts import Linear

if TYPE_CHECKING:
    from torch import Tensor

POOLS = ("mean", "max", "first")


def table(x: Tensor, grid: Sequence[int]) -> Tensor:
    """(B × V, T, D) or (B, V × T, D) → (B, V, T, D), a view."""
    return x.reshape(-1, *grid, x.shape[-1])


def pooled(x_BVTD: Tensor, pool: str) -> Tensor:
    """(B, V, T, D) → (B, V, D): the mean, the largest entries or the first token; without ``pool`` (B, V, T × D)."""
    if pool == "mean":
        return x_BVTD.mean(dim=2)
    if pool == "max":
        return x_BVTD.amax(dim=2)
    return x_BVTD[:, :, 0] if pool == "first" else x_BVTD.flatten(2)


def projections(name: str, out: Dim, inp: Dim, variates: int, shared: bool) -> Iterator[Linear]:
    """One linear part for all variates, or one for each (``project0``, ``project1``, …)."""
    yield from (Linear(f"{name}{i}", out, inp) for i in range(variates)) if not shared else (Linear(name, out, inp),)
