"""Fourier neural operator: channels are mixed on the lowest frequencies, plus a pointwise linear map.

Source: Li et al. 2021 (FNO, equation 4); Poli et al. 2022 (Transform Once). The number of kept modes is an axis per
dimension, but a selection would drop frequencies and change the function for every input, so it stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Linear, Part, Role, Vector
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class FourierModes(Operator):
    """``act(irfft(R · rfft(x)) + W x)`` with ``R`` on the lowest modes only.

    Attributes:
        modes: kept frequencies per dimension (rows: of each sign); at most half the grid.
        act: activation of the sum.
    """

    kind: ClassVar[str] = "mix.fft.fno"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    on_grid: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D² + 8 M D² (M: kept modes) + 2.5 T D log2 T"
    constraints: ClassVar[tuple[str, ...]] = ("modes are at most half the grid",)
    papers: ClassVar[tuple[int, ...]] = (6, 25, 129)

    modes: tuple[int, int]
    act: str = "identity"

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``modes`` (signs, rows, columns, out, in, real and imaginary part) and ``skip``."""
        rows, columns = self.modes
        dims = (dim(2), dim(rows), dim(columns), site.stream, site.stream, dim(2))
        fixed = (Role.ELEMENTWISE,) * 3
        return (
            Vector("modes", dims, (*fixed, Role.PRODUCES, Role.CONSUMES, Role.ELEMENTWISE)),
            Linear("skip", site.stream, site.stream),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """A complex matrix product (four real ones) per kept mode, and two transforms."""
        return self._products(site) + self.uncounted_macs(site, flow)

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """The transforms."""
        return int(flow.tokens * site.stream.size(site.sizes) * 2.5 * math.log2(flow.tokens))

    def _products(self, site: Site) -> int:
        return 4 * 2 * math.prod(self.modes) * site.stream.size(site.sizes) ** 2

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        return (on_image([branch(cls(modes=(3, 4), act="gelu"))]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); the transform is computed in float32 or wider."""
        import torch
        import torch.nn.functional as F

        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        grid, (rows, columns) = tuple(ctx.flow.grid), self.modes
        spectrum = torch.fft.rfft2(wide.unflatten(1, grid), dim=(1, 2), norm="ortho")
        weight = m.modes.to(wide.dtype)
        parts_2BRCD = torch.view_as_real(spectrum).movedim(-1, 0)
        low = _mixed(parts_2BRCD[:, :, :rows, :columns], weight[0])
        high = _mixed(parts_2BRCD[:, :, -rows:, :columns], weight[1])
        kept = torch.cat((low, torch.zeros_like(parts_2BRCD[:, :, rows:-rows, :columns]), high), dim=2)
        whole = F.pad(kept, (0, 0, 0, spectrum.shape[2] - columns))
        modes = torch.view_as_complex(whole.movedim(0, -1).contiguous())
        mixed = torch.fft.irfft2(modes, s=grid, dim=(1, 2), norm="ortho").flatten(1, 2).to(x.dtype)
        return activation(self.act)(mixed + m.skip(x))


def _mixed(x_2BRCI: Tensor, w_RCOI2: Tensor) -> Tensor:
    """The complex product per mode in real numbers: (2, B, R, C, in) → (2, B, R, C, out)."""
    import torch

    (real, imaginary), (a, b) = x_2BRCI.unbind(0), w_RCOI2.unbind(-1)
    return torch.stack(
        (
            _product(real, a) - _product(imaginary, b),
            _product(real, b) + _product(imaginary, a),
        )
    )


def _product(x_BRCI: Tensor, w_RCOI: Tensor) -> Tensor:
    import torch

    return torch.einsum("brci,rcoi->brco", x_BRCI, w_RCOI)
