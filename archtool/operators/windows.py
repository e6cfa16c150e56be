"""Cutting a grid of tokens into square windows, and back.

Legend: `B` batch, `R` rows, `S` columns, `C` channels, `N` windows (of all samples), `A` cells of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def clamped(grid: Sequence[int], window: int) -> int:
    """The side of the windows that a grid holds."""
    return min(window, *grid)


def padded(grid: Sequence[int], window: int) -> tuple[int, int]:
    """Rows and columns after padding to whole windows."""
    return -(-grid[0] // window) * window, -(-grid[1] // window) * window


def rolled(x_BRSC: Tensor, sides: Sequence[int], shift: int) -> Tensor:
    """The cells, padded with zeros to ``sides`` (at the bottom and on the right) and rolled along both."""
    import torch.nn.functional as F

    missing = (sides[0] - x_BRSC.shape[1], sides[1] - x_BRSC.shape[2])
    whole = F.pad(x_BRSC, (0, 0, 0, missing[1], 0, missing[0])) if any(missing) else x_BRSC
    return whole.roll((shift, shift), (1, 2)) if shift else whole


def cut(x_BRSC: Tensor, window: int) -> Tensor:
    """(B, R, S, C) → (N, A, C), windows and their cells row by row."""
    cells = x_BRSC.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    return cells.flatten(3, 4).flatten(0, 2)


def joined(x_NAC: Tensor, sides: Sequence[int], window: int) -> Tensor:
    """The inverse of `cut`, on a grid of ``sides``."""
    windows = x_NAC.unflatten(1, (window, window)).unflatten(0, (-1, sides[0] // window, sides[1] // window))
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)
