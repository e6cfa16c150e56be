"""Gating in the cosine basis: a two-dimensional cosine transform of the tokens, a gain per frequency, the inverse.

Source: the transform pair of Shen et al. 2023 (dynamic spectrum mixer), with learned instead of generated gains. The
gains belong to one grid; only channels can be selected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Constant, Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True)
class Cosines:
    """The orthonormal cosine transform (DCT-II) of ``size`` numbers, as a matrix."""

    size: int

    def values(self) -> Tensor:
        """(frequencies, places)."""
        import torch

        places = (torch.arange(self.size) + 0.5) * math.pi / self.size
        basis = torch.cos(torch.arange(self.size)[:, None] * places) * (2 / self.size) ** 0.5
        basis[0] *= 0.5**0.5
        return basis


@dataclass(frozen=True, kw_only=True)
class CosineGate(Operator):
    """``idct(dct(x) · gain)`` over the grid of tokens.

    Attributes:
        grid: rows and columns.
    """

    kind: ClassVar[str] = "mix.dct"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    on_grid: ClassVar[bool] = True
    cost_form: ClassVar[str] = "2 T D (rows + columns)"
    constraints: ClassVar[tuple[str, ...]] = ("the gains belong to one grid",)
    papers: ClassVar[tuple[int, ...]] = (101, 128)

    grid: tuple[int, int]

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``gain`` (rows, columns, width) and the two transforms."""
        rows, columns = self.grid
        gain = Vector("gain", (dim(rows), dim(columns), site.stream), (Role.ELEMENTWISE,) * 3, "ones")
        across = Constant("across", (dim(columns), dim(columns)), Cosines(columns))
        return gain, Constant("down", (dim(rows), dim(rows)), Cosines(rows)), across

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Four products with a transform: there and back, in both directions."""
        return 2 * flow.tokens * sum(self.grid) * site.stream.size(site.sizes)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        return (on_image([branch(cls(grid=(8, 8)))]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch

        down, across = m.down.to(x.dtype), m.across.to(x.dtype)
        x_BRCD = across @ x.unflatten(1, tuple(self.grid))
        spectrum_BRCD = torch.einsum("ri,bicd->brcd", down, x_BRCD) * m.gain
        return (across.mT @ torch.einsum("ri,brcd->bicd", down, spectrum_BRCD)).flatten(1, 2)
