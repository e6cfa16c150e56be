"""Patch merging: a square of neighbours becomes one token of another width (Liu et al. 2021, Swin, section 3.1).

The square's channels stand side by side, column by column, are normed together and reduced by one matrix. A grid that
the square does not divide is padded with zeros at the bottom and on the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.windows import padded, rolled

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class PatchMerging(Operator):
    """``reduce(norm(square))`` for each square of neighbours.

    Attributes:
        into: axis name of the channels that leave.
        factor: side of the square.
        norm: norm of the square's channels, or None.
        bias: whether the reduction has a bias.
    """

    kind: ClassVar[str] = "down.merge"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("the stream is a grid of rows and columns without further tokens",)
    cost_form: ClassVar[str] = "T' factor² D into, T': tokens that leave"
    papers: ClassVar[tuple[int, ...]] = (20,)

    into: str
    factor: int = 2
    norm: NormSpec | None = None
    bias: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``norm`` of the square and ``reduce`` (into, factor² × in)."""
        square = dim(self.factor**2, *site.stream.factors)
        reduce = Linear("reduce", dim(self.into), square, self.bias)
        return (self.norm.part("norm", square), reduce) if self.norm else (reduce,)

    def out(self, site: Site) -> Dim:
        """The next stage's width."""
        return dim(self.into)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """A token for each square."""
        rows, columns = padded(flow.grid or (0, 0), self.factor)
        grid = (rows // self.factor, columns // self.factor)
        return Flow(grid[0] * grid[1], grid)

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("reduce",) if norm == "norm" else ()

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per token that leaves."""
        return math.prod(padded(flow.grid or (0, 0), self.factor)) // self.factor**2

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The squares, before and after the norm."""
        return 2 * math.prod(padded(flow.grid or (0, 0), self.factor)) * site.stream.size(site.sizes)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, on_image

        ffn, widths = branch(Mlp(act="relu"), hidden=8), {"s1.width": 12}
        even, odd = cls(into="s1.width", norm=NormSpec()), cls(into="s1.width", factor=3, bias=True)
        return tuple(on_image([ffn], [alone(op)], sizes=widths) for op in (even, odd))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, C) → (B, T', into)."""
        side, grid = self.factor, tuple(ctx.flow.grid)
        cells = rolled(x.unflatten(1, grid), padded(grid, side), 0)
        squares = cells.unflatten(2, (-1, side)).unflatten(1, (-1, side)).permute(0, 1, 3, 4, 2, 5)
        x_BTE = squares.flatten(3).flatten(1, 2)
        return m.reduce(m.norm(x_BTE) if self.norm else x_BTE)
