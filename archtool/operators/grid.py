"""Tokens on a grid as an image and back; both are views, so that a convolution reads channels-last memory.

The grid is unfolded before the channels move: then a batch of one has the strides by which kernels know that layout.

Legend: `B` batch, `T` tokens, `C` channels, `H` rows, `W` columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archtool.ir.operator import Flow

if TYPE_CHECKING:
    from torch import Tensor


def to_image(x_BTC: Tensor, grid: Sequence[int]) -> Tensor:
    """(B, T, C) → (B, C, H, W), or (B, C, F, H, W) on a grid of three."""
    return x_BTC.unflatten(1, tuple(grid)).movedim(-1, 1)


def to_tokens(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) → (B, T, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)


def cells_after(
    grid: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, ...]:
    """Rows and columns that a convolution or a pool leaves."""
    each = zip(grid, kernel, stride, padding, strict=True)
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in each)


def flow_after(flow: Flow, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Flow:
    """The flow that a convolution or a pool leaves."""
    grid = cells_after(flow.grid or (0,) * len(kernel), kernel, stride, padding)
    tokens = 1
    for n in grid:
        tokens *= n
    return Flow(tokens * flow.sequences, grid, flow.sequences)


def resized(x_BTC: Tensor, grid: Sequence[int], target: Sequence[int]) -> Tensor:
    """Tokens of ``grid`` brought to another grid by bilinear interpolation (half-pixel centres)."""
    import torch.nn.functional as F

    if tuple(grid) == tuple(target):
        return x_BTC
    return to_tokens(F.interpolate(to_image(x_BTC, grid), tuple(target), mode="bilinear", align_corners=False))
