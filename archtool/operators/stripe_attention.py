"""Cross-shaped windows: half of the heads attend in horizontal stripes of the grid, half in vertical ones.

Source: Dong et al. 2022 (CSWin Transformer), sections 3.2 and 3.3, with its locally-enhanced positions: a depthwise
convolution of the values, inside a stripe, is added to the result. A stripe as wide as the grid is full attention, in
which the two halves differ by nothing. A grid that the stripes do not divide is padded with zeros.

Axes: ``kv`` (heads of each half), ``qk``, ``v``.
Legend: `B` batch, `R` rows, `S` columns, `N` stripes, `A` cells of a stripe, `E` channels of a half, `H` heads of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part, Witness
from archtool.operators.grid import to_image, to_tokens
from archtool.operators.windows import cut, joined, padded, rolled

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class StripeAttention(Operator):
    """Softmax attention inside stripes of ``width`` rows, and of ``width`` columns.

    Attributes:
        scale: factor on the scores.
        width: rows of a horizontal and columns of a vertical stripe.
        kernel: side of the convolution of the values (odd; 0: none).
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.stripe"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "qk": SELECT | {"scale"}, "v": SELECT}
    on_grid: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("the stream is a grid of rows and columns without further tokens",)
    cost_form: ClassVar[str] = "2 T' kv (D (2 qk + 2 v) + width side (qk + v) + kernel² v), T': cells of padded grids"
    papers: ClassVar[tuple[int, ...]] = (43, 84)

    scale: float
    width: int
    kernel: int = 3
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``q``, ``k``, ``v``, ``o`` on both halves; the head count; a convolution of each half's values."""
        queries, values = dim(2, *site.dim("kv", "qk").factors), dim(2, *site.dim("kv", "v").factors)
        half, square = site.dim("kv", "v"), (self.kernel,) * 2
        convs = [Conv2d(name, half, dim(1), square, padding=(self.kernel // 2,) * 2) for name in ("rows", "columns")]
        return (
            Linear("q", queries, site.stream, self.bias),
            Linear("k", queries, site.stream, self.bias),
            Linear("v", values, site.stream, self.bias),
            Linear("o", site.stream, values, self.out_bias),
            Witness("heads", (site.dim("kv"),)),
            *(convs if self.kernel else ()),
        )

    def stripes(self, grid: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of a stripe of each half."""
        return (min(self.width, grid[0]), grid[1]), (grid[0], min(self.width, grid[1]))

    def calls(self, part: Part, flow: Flow) -> int:
        """Projections once per token, a convolution once per cell of its padded grid."""
        if part.name not in ("rows", "columns"):
            return flow.tokens
        grid = flow.grid or (1, 1)
        return math.prod(padded(grid, self.stripes(grid)[part.name == "columns"]))

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values of both halves."""
        grid = flow.grid or (1, 1)
        pairs = sum(math.prod(padded(grid, stripe)) * math.prod(stripe) for stripe in self.stripes(grid))
        return site.size("kv") * pairs * (site.size("qk") + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values, the convolved and the mixed values."""
        return flow.tokens * 2 * site.size("kv") * (2 * site.size("qk") + 3 * site.size("v"))

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "o" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("q", "k", "v") if norm == "pre" else ()

    def with_bias(self, parts: Sequence[str]) -> StripeAttention:
        """See `Operator.with_bias`."""
        return replace(self, bias=self.bias or set(parts) != {"o"}, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        sizes = {"kv": 2, "qk": 4, "v": 4}
        narrow, uneven = cls(scale=0.5, width=1), cls(scale=0.5, width=3, bias=False, out_bias=False)
        whole = cls(scale=0.5, width=16, kernel=0)
        return (on_image([branch(narrow, **sizes)], [branch(uneven, **sizes)], [branch(whole, **sizes)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch

        grid, each = tuple(ctx.flow.grid), (y.chunk(2, dim=-1) for y in (m.q(x), m.k(x), m.v(x)))
        convs = (m.rows, m.columns) if self.kernel else (None, None)
        halves = zip(zip(*each, strict=True), self.stripes(grid), convs, strict=True)
        mixed = [self._half(m.heads.shape[0], qkv, grid, stripe, conv) for qkv, stripe, conv in halves]
        return m.o(torch.cat(mixed, dim=-1))

    def _half(
        self, heads: int, qkv: Sequence[Tensor], grid: Sequence[int], stripe: tuple[int, int], conv: Any
    ) -> Tensor:
        """Attention inside the stripes of one half: (B, T, E) → (B, T, E)."""
        import torch.nn.functional as F

        sides = padded(grid, stripe)
        q, k, v = (cut(rolled(y.unflatten(1, tuple(grid)), sides, 0), stripe) for y in qkv)
        q, k, y = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, y, scale=self.scale).transpose(1, 2).flatten(2)
        local = mixed + to_tokens(conv(to_image(v, stripe))) if conv else mixed
        return joined(local, sides, stripe)[:, : grid[0], : grid[1]].flatten(1, 2)
