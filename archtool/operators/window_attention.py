"""Softmax attention inside windows of a grid, plain or shifted, with a bias per head and relative position.

Source: Liu et al. 2021 (Swin Transformer), section 3.2. A shifted layer rolls the grid, so that its windows lie across
those of a plain one, and masks pairs of cells that are no neighbours. A grid that the window does not divide is padded
with zeros at the bottom and on the right; a window that the grid does not hold is clamped to it and not shifted.

Axes: ``kv`` (heads), ``qk`` and ``v`` (dimensions of a head).
Legend: `B` batch, `T` tokens, `C` channels, `R` rows, `S` columns, `N` windows, `A` cells of a window, `H` heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import FREE, SELECT, Flow, Operator, Site
from archtool.ir.parts import Constant, Linear, Part, Role, Vector, Witness
from archtool.operators.windows import clamped, cut, joined, padded, rolled

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

APART = -100.0
"""Added to the score of two cells that are neighbours only because the grid was rolled."""


@dataclass(frozen=True)
class RelativeIndex:
    """Row of a relative bias table for each pair of cells of a square window."""

    window: int

    def values(self) -> Tensor:
        """(A, A): offsets of rows and of columns, from (1-w, 1-w) to (w-1, w-1), counted row by row."""
        import torch

        w = self.window
        cells_2A = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
        apart = cells_2A[:, :, None] - cells_2A[:, None, :] + w - 1
        return apart[0] * (2 * w - 1) + apart[1]


@dataclass(frozen=True, kw_only=True)
class WindowAttention(Operator):
    """Attention inside windows of ``window`` by ``window`` cells.

    Attributes:
        window: side of a window.
        shift: by how many cells the grid is rolled before it is cut (0: not).
        scale: factor on the scores.
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.window"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "qk": SELECT | {"scale"}, "v": FREE}
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("the stream is a grid of rows and columns without further tokens",)
    cost_form: ClassVar[str] = "T' kv (D (2 qk + 2 v) + window² (qk + v)), T': cells of the padded grid"
    papers: ClassVar[tuple[int, ...]] = (
        1, 18, 20, 26, 27, 40, 46, 53, 69, 71, 72, 109, 125, 138, 145, 158, 216, 231, 232, 238, 248, 255, 266,
    )  # fmt: skip

    window: int
    shift: int = 0
    scale: float
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q``, ``k``, ``v``, ``o``; the head count; the bias table and the rows that it is read at."""
        area, offsets = self.window**2, (2 * self.window - 1) ** 2
        return (
            Linear("q", site.dim("kv", "qk"), site.stream, self.bias),
            Linear("k", site.dim("kv", "qk"), site.stream, self.bias),
            Linear("v", site.dim("kv", "v"), site.stream, self.bias),
            Linear("o", site.stream, site.dim("kv", "v"), self.out_bias),
            Witness("heads", (site.dim("kv"),)),
            Vector("table", (dim(offsets), site.dim("kv")), (Role.INDEX, Role.ELEMENTWISE)),
            Constant("index", (dim(area), dim(area)), RelativeIndex(self.window)),
        )

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per cell of the padded grid."""
        grid = flow.grid or (1, 1)
        return math.prod(padded(grid, clamped(grid, self.window)))

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values: heads × cells × cells of a window × (K + V)."""
        window = clamped(flow.grid or (1, 1), self.window)
        cells = math.prod(padded(flow.grid or (1, 1), window))
        return site.size("kv") * cells * window**2 * (site.size("qk") + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values and mixed values, and what is added to the scores."""
        window = clamped(flow.grid or (1, 1), self.window)
        cells = math.prod(padded(flow.grid or (1, 1), window))
        return cells * site.size("kv") * (2 * site.size("qk") + 2 * site.size("v") + window**2)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        def shifted(window: int, shift: int, bias: bool = True) -> Architecture:
            plain, rolled = (cls(window=window, shift=s, scale=0.5, bias=bias, out_bias=bias) for s in (0, shift))
            return on_image([branch(plain, kv=4, qk=4, v=4)], [branch(rolled, kv=2, qk=3, v=6)])

        return shifted(4, 2), shifted(3, 1, bias=False), shifted(9, 4)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        import torch.nn.functional as F

        grid, heads = ctx.flow.grid, m.heads.shape[0]
        window = clamped(grid, self.window)
        shift = self.shift if window < min(grid) else 0
        sides = padded(grid, window)
        cells = rolled(x.unflatten(1, tuple(grid)), sides, -shift)
        x_NAC = self._cut(cells, window)
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (m.q(x_NAC), m.k(x_NAC), m.v(x_NAC)))
        added = self._added(m, ctx, cells, window, shift)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=self.scale)
        out = rolled(self._joined(m.o(mixed.transpose(1, 2).flatten(2)), sides, window), sides, shift)
        return out[:, : grid[0], : grid[1]].flatten(1, 2)

    def _cut(self, x_BRSC: Tensor, window: int) -> Tensor:
        return cut(x_BRSC, window)

    def _joined(self, x_NAC: Tensor, sides: tuple[int, int], window: int) -> Tensor:
        return joined(x_NAC, sides, window)

    def _added(self, m: Any, ctx: Any, cells: Tensor, window: int, shift: int) -> Tensor:
        """What is added to the scores: (1, H, A, A), or (N, H, A, A) where windows differ."""
        index_AA = m.index if window == self.window else inner(m.index, self.window, window)
        bias_HAA = m.table.t().index_select(1, index_AA.flatten()).unflatten(1, index_AA.shape).to(cells.dtype)
        if not shift:
            return bias_HAA[None]
        key = ("window regions", *cells.shape[1:3], window, shift, cells.dtype)
        apart_NAA = ctx.once(key, lambda: regions(cells, window, shift))
        added_NHAA = bias_HAA[None] + apart_NAA[:, None]
        return added_NHAA.expand(cells.shape[0], *added_NHAA.shape).flatten(0, 1)


def inner(index_AA: Tensor, window: int, smaller: int) -> Tensor:
    """The rows of the table for the pairs of cells of a smaller window."""
    index = index_AA.reshape(window, window, window, window)
    return index[:smaller, :smaller, :smaller, :smaller].reshape(smaller**2, smaller**2)


def regions(x_BRSC: Tensor, window: int, shift: int) -> Tensor:
    """0 (N, A, A) where two cells of a window were neighbours before the grid was rolled, `APART` elsewhere."""
    import torch

    rows_R, columns_S = (
        (at >= n - window).long() + (at >= n - shift).long()
        for n in x_BRSC.shape[1:3]
        for at in (torch.arange(n, device=x_BRSC.device),)
    )
    region = cut((rows_R[:, None] * 3 + columns_S)[None, :, :, None], window).squeeze(-1)
    apart = region[:, None, :] != region[:, :, None]
    return apart.to(x_BRSC.dtype) * APART
