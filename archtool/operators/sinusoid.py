"""Sinusoidal positions, computed: sines of all wavelengths, then cosines (Vaswani et al. 2017, section 3.5).

The wavelengths grow from 2π by a factor of ``10000 ** (1 / spacing)`` per pair. Shapes: `T` positions, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sinusoid:
    """Settings of a table of sinusoidal positions.

    Attributes:
        width: channels before any pruning.
        positions: rows.
        spacing: pairs over which the wavelength grows by 10000: ``width / 2`` (Marian), ``width / 2 - 1``
            (tensor2tensor, OpenNMT).
        kept: channels that are left; empty: all.
    """

    kind: ClassVar[str] = "sinusoid"

    width: int
    positions: int
    spacing: float
    kept: tuple[int, ...] = ()

    def selected(self, keep: Sequence[int]) -> Sinusoid:
        """After a selection of channels; ``keep`` indexes what is left now."""
        now = self.kept or tuple(range(self.width))
        return replace(self, kept=tuple(now[i] for i in keep))

    def values(self) -> Tensor:
        """The table (T, D) in float32; angles are computed in float64."""
        import torch

        half = (self.width + 1) // 2
        steps = torch.arange(half, dtype=torch.float64) / self.spacing
        angles = torch.arange(self.positions, dtype=torch.float64)[:, None] * 10000.0**-steps
        table_TD = torch.cat((angles.sin(), angles[:, : self.width - half].cos()), dim=1).float()
        return table_TD[:, list(self.kept)] if self.kept else table_TD
