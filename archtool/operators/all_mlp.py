"""SegFormer's decode head up to its norm: every level to one width, to the finest grid, side by side, mixed per cell.

Source: Xie et al. 2021, section 3.2. What follows (norm, activation, classifier) are the layer's ``branch`` norm and
further layers. Axes: ``inner`` (width of a level), ``units`` (what leaves).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part
from archtool.operators.grid import resized, to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class AllMlp(Operator):
    """``fuse(concat(resize(levelᵢ(xᵢ))))``, the coarsest level first; the first stream has the finest grid.

    Attributes:
        bias: whether ``fuse`` has a bias.
    """

    kind: ClassVar[str] = "head.allmlp"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "Σᵢ Tᵢ Dᵢ inner + T levels inner units"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"inner": SELECT, "units": SELECT}
    papers: ClassVar[tuple[int, ...]] = (180,)

    bias: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``level0``, … (inner, Dᵢ) and ``fuse`` (units, levels × inner)."""
        levels = tuple(Linear(f"level{i}", site.dim("inner"), width) for i, width in enumerate(site.inputs))
        return (*levels, Conv2d("fuse", site.dim("units"), site.dim(len(levels), "inner"), (1, 1), bias=self.bias))

    def out(self, site: Site) -> Dim:
        """The units."""
        return site.dim("units")

    def calls(self, part: Part, flow: Flow) -> int:
        """Every level on its own grid, the mix on the finest."""
        tokens = (flow.tokens, *(each.tokens for each in flow.beside))
        return flow.tokens if part.name == "fuse" else tokens[int(part.name.removeprefix("level"))]

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """All levels side by side on the finest grid."""
        return (1 + len(flow.beside)) * flow.tokens * site.size("inner")

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "fuse" if norm == "branch" else ""

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.conv import GridConv
        from archtool.operators.samples import alone, followed, on_image

        down = alone(GridConv(into="low.width", stride=(2, 2)))
        arch = on_image([down], sizes={"low.width": 12})
        return (followed(arch, cls(), ("embed", "b0"), inner=6, units=10),)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """A tuple of (B, Tᵢ, Dᵢ) → (B, T, units)."""
        import torch

        levels = x if isinstance(x, tuple) else (x,)
        grids = (ctx.flow.grid, *(each.grid for each in ctx.flow.beside))
        projected = [getattr(m, f"level{i}")(level) for i, level in enumerate(levels)]
        raised = [resized(level, grid, grids[0]) for level, grid in zip(projected, grids, strict=True)]
        return to_tokens(m.fuse(to_image(torch.cat(raised[::-1], dim=-1), grids[0])))
