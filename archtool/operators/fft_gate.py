"""Spectral gating: the tokens' Fourier transform, a learned complex filter per frequency and channel, the inverse.

Source: Rao et al. 2021 (GFNet, equations 3-5), Patro et al. 2023 (SpectFormer). The filter belongs to one grid (or
length): rows × (columns // 2 + 1) frequencies; only channels can be selected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class SpectralGate(Operator):
    """``irfft(rfft(x) · w)`` over all tokens.

    Attributes:
        grid: (rows, columns) of the tokens, or (length,) of a sequence.
    """

    kind: ClassVar[str] = "mix.fft.global"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    cost_form: ClassVar[str] = "T D (2.5 log2 T + 2) (Fourier transforms and the filter)"
    constraints: ClassVar[tuple[str, ...]] = ("the filter belongs to one grid or length",)
    papers: ClassVar[tuple[int, ...]] = (103, 108, 118, 150, 161)

    grid: tuple[int, ...]

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``filter`` (frequencies..., width, real and imaginary part)."""
        frequencies = (*self.grid[:-1], self.grid[-1] // 2 + 1)
        dims = (*map(dim, frequencies), site.stream, dim(2))
        return (Vector("filter", dims, (Role.ELEMENTWISE,) * len(dims)),)

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Two real transforms (2.5 N log2 N operations each) and a complex product for half the frequencies."""
        tokens = math.prod(self.grid)
        return int(tokens * site.stream.size(site.sizes) * (2.5 * math.log2(tokens) + 2))

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """All: none is a matrix product."""
        return self.mixing_macs(site, flow)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The spectrum."""
        return 2 * flow.tokens * site.stream.size(site.sizes)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        return on_image([branch(cls(grid=(8, 8)))]), on_image([branch(cls(grid=(64,)))])

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); the transform is computed in float32 or wider."""
        import torch

        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = tuple(range(1, 1 + len(self.grid)))
        spectrum = torch.fft.rfftn(wide.unflatten(1, tuple(self.grid)), dim=axes, norm="ortho")
        gated = spectrum * torch.view_as_complex(m.filter.to(wide.dtype).contiguous())
        return torch.fft.irfftn(gated, s=tuple(self.grid), dim=axes, norm="ortho").flatten(1, len(axes)).to(x.dtype)
