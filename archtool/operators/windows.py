"""Cutting a grid of tokens into windows, and back; a number of cells stands for a square.

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


def sides_of(window: int | Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a window."""
    return (window, window) if isinstance(window, int) else (window[0], window[1])


def padded(grid: Sequence[int], window: int | Sequence[int]) -> tuple[int, int]:
    """Rows and columns after padding to whole windows."""
    rows, columns = sides_of(window)
    return -(-grid[0] // rows) * rows, -(-grid[1] // columns) * columns


def rolled(x_BRSC: Tensor, sides: Sequence[int], shift: int) -> Tensor:
    """The cells, padded with zeros to ``sides`` (at the bottom and on the right) and rolled along both."""
    import torch.nn.functional as F

    missing = (sides[0] - x_BRSC.shape[1], sides[1] - x_BRSC.shape[2])
    whole = F.pad(x_BRSC, (0, 0, 0, missing[1], 0, missing[0])) if any(missing) else x_BRSC
    return whole.roll((shift, shift), (1, 2)) if shift else whole


def cut(x_BRSC: Tensor, window: int | Sequence[int]) -> Tensor:
    """(B, R, S, C) → (N, A, C), windows and their cells row by row."""
    rows, columns = sides_of(window)
    cells = x_BRSC.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)
    return cells.flatten(3, 4).flatten(0, 2)


def joined(x_NAC: Tensor, sides: Sequence[int], window: int | Sequence[int]) -> Tensor:
    """The inverse of `cut`, on a grid of ``sides``."""
    rows, columns = sides_of(window)
    windows = x_NAC.unflatten(1, (rows, columns)).unflatten(0, (-1, sides[0] // rows, sides[1] // columns))
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)
