"""Attention whose keys and values come from a spatially reduced grid.

Source: Wang et al. 2021 (PVT: a strided convolution), Xie et al. 2021 (SegFormer), Wang et al. 2022 (PVT v2's
linear form: an average pool to a fixed grid). Axes: ``kv`` (heads), ``qk``, ``v``, ``inner`` (channels of the reduced
grid). T tokens, S cells of the reduced grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.operator import FREE, SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part, Witness
from archtool.operators.activation import activation
from archtool.operators.attention import split_heads
from archtool.operators.grid import cells_after, to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ReducedAttention(Operator):
    """``softmax(q kᵀ scale) v`` with k and v of ``act(norm(conv(pool(x))))``.

    Attributes:
        scale: factor on the scores.
        ratio: cells of the grid that one key stands for, per direction (kernel and stride of the convolution).
        pool: rows and columns of an average pool before the convolution (0: none).
        norm: norm after the convolution, or None.
        act: activation after the norm.
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.sr"
    on_grid: ClassVar[bool] = True
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {
        "kv": SELECT, "qk": SELECT | {"scale"}, "v": FREE, "inner": SELECT,
    }  # fmt: skip
    cost_form: ClassVar[str] = (
        "T D kv (qk + v) + S inner (ratio² D + kv (qk + v)) + kv T S (qk + v), S = T / ratio² or pool²"
    )
    constraints: ClassVar[tuple[str, ...]] = ("a grid of at least ratio × ratio",)
    papers: ClassVar[tuple[int, ...]] = (18, 31, 56, 68, 134, 160, 180, 252)

    scale: float
    ratio: int = 1
    pool: int = 0
    norm: NormSpec | None = None
    act: str = "identity"
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``reduce`` convolution and ``norm``; projections ``q``, ``k``, ``v``, ``o``; the head count."""
        queries, values, inner = site.dim("kv", "qk"), site.dim("kv", "v"), site.dim("inner")
        square = (self.ratio, self.ratio)
        parts: tuple[Part, ...] = (
            Conv2d("reduce", inner, site.stream, square, square),
            Linear("q", queries, site.stream, self.bias),
            Linear("k", queries, inner, self.bias),
            Linear("v", values, inner, self.bias),
            Linear("o", site.stream, values, self.out_bias),
            Witness("heads", (site.dim("kv"),)),
        )
        return (*parts, self.norm.part("norm", inner)) if self.norm else parts

    def cells(self, flow: Flow) -> int:
        """Keys of one sequence."""
        grid = (self.pool, self.pool) if self.pool else flow.grid or (0, 0)
        return math.prod(cells_after(grid, (self.ratio,) * 2, (self.ratio,) * 2, (0, 0)))

    def calls(self, part: Part, flow: Flow) -> int:
        """Queries and outputs per token, the rest per cell of the reduced grid."""
        return flow.tokens if part.name in ("q", "o") else self.cells(flow) * flow.sequences

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values: heads × T × S × (K + V)."""
        return site.size("kv") * flow.tokens * self.cells(flow) * (site.size("qk") + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The reduced grid, queries, keys, values and the mixed values."""
        both, cells = site.size("kv") * (site.size("qk") + site.size("v")), self.cells(flow) * flow.sequences
        return flow.tokens * both + cells * (both + site.size("inner"))

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return {"branch": "o", "norm": "reduce"}.get(norm, "")

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`; averages pass a gain and a shift on."""
        if norm == "pre" and self.ratio == 1:
            return ("reduce", "q")
        return ("k", "v") if norm == "norm" and self.act == "identity" else ()

    def with_bias(self, parts: Sequence[str]) -> ReducedAttention:
        """See `Operator.with_bias`; the convolution has one."""
        inner = self.bias or bool({"q", "k", "v"} & set(parts))
        return replace(self, bias=inner, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        strided = branch(cls(scale=0.5, ratio=2, norm=NormSpec(), bias=False), kv=4, qk=4, v=6, inner=12)
        pooled = branch(cls(scale=0.5, pool=3, norm=NormSpec("rms"), act="gelu"), kv=2, qk=4, v=4, inner=16)
        bare = branch(cls(scale=0.5, ratio=3), kv=2, qk=4, v=4, inner=8)
        return on_image([strided], [pooled], image=14), on_image([bare])

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch.nn.functional as F

        heads = m.heads.shape[0]
        reduced_BSI = self._reduced(m, x, ctx.flow.grid)
        q, k, v = (split_heads(y, heads) for y in (m.q(x), m.k(reduced_BSI), m.v(reduced_BSI)))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return m.o(mixed.transpose(1, 2).flatten(2))

    def _reduced(self, m: Any, x_BTD: Tensor, grid: tuple[int, ...]) -> Tensor:
        import torch.nn.functional as F

        image = to_image(x_BTD, grid)
        if self.pool:
            image = F.adaptive_avg_pool2d(image, (self.pool, self.pool))
        cells_BSI = to_tokens(m.reduce(image))
        return activation(self.act)(m.norm(cells_BSI) if self.norm else cells_BSI)
