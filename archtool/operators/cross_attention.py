"""Softmax attention from one stream to another: queries of the layer's own, keys and values of what it reads.

Source: Vaswani et al. 2017, section 3.2.3 ("encoder-decoder attention"). Axes as in `mix.attn`. Keys and values are
computed once for all steps of generation. Shapes: `T` tokens of the own stream, `S` of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import FREE, SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part, Witness
from archtool.operators.attention import repeat_heads, split_heads

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class CrossAttention(Operator):
    """Softmax cross-attention to the first stream that the layer reads.

    Attributes:
        scale: factor on the scores.
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.cross"
    cost_form: ClassVar[str] = "T D h (qk + v) + S M kv (qk + v) + h T S (qk + v), h = kv · group heads, M read width"
    constraints: ClassVar[tuple[str, ...]] = ("its layer reads another block",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {
        "kv": SELECT, "group": SELECT, "qk": SELECT | {"scale"}, "v": FREE,
    }  # fmt: skip
    papers: ClassVar[tuple[int, ...]] = (7, 27, 44, 49, 56, 60, 124, 224)

    scale: float
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q`` and ``o`` on the own stream, ``k`` and ``v`` on the other; head counts."""
        own, other = site.inputs[0], site.inputs[1]
        return (
            Linear("q", site.dim("kv", "group", "qk"), own, self.bias),
            Linear("k", site.dim("kv", "qk"), other, self.bias),
            Linear("v", site.dim("kv", "v"), other, self.bias),
            Linear("o", own, site.dim("kv", "group", "v"), self.out_bias),
            Witness("heads", (site.dim("kv"), site.dim("group"))),
        )

    def calls(self, part: Part, flow: Flow) -> int:
        """Keys and values: once per token of the other stream."""
        return flow.beside[0].tokens if part.name in ("k", "v") else flow.tokens

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values: heads × T × S × (K + V)."""
        heads = site.size("kv") * site.size("group")
        return heads * flow.tokens * flow.beside[0].length * (site.size("qk") + site.size("v"))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Keys and values of the other stream."""
        return site.size("kv") * flow.beside[0].tokens * (site.size("qk") + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries and mixed values of the own stream, keys and values of the other."""
        kv, each = site.size("kv"), site.size("qk") + site.size("v")
        return (flow.tokens * site.size("group") + flow.beside[0].tokens) * kv * each

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import encoder_decoder

        grouped = cls(scale=0.5, bias=False), {"kv": 2, "group": 2, "qk": 4, "v": 6}
        plain = cls(scale=0.3, out_bias=False), {"kv": 4, "group": 1, "qk": 4, "v": 4}
        return tuple(encoder_decoder(op, **sizes) for op, sizes in (grouped, plain))

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """(B, T, D) and (B, S, M) → (B, T, D)."""
        import torch.nn.functional as F

        x_BTD, other_BSM = x[0], x[1]
        kv, group = m.heads.shape[0], m.heads.shape[1]
        q = split_heads(m.q(x_BTD), kv * group)
        k, v = ctx.keep(lambda: (split_heads(m.k(other_BSM), kv), split_heads(m.v(other_BSM), kv)))
        mask = ctx.memory_mask()
        mixed = F.scaled_dot_product_attention(
            q, repeat_heads(k, group), repeat_heads(v, group), attn_mask=mask, scale=self.scale
        )
        return m.o(mixed.transpose(1, 2).flatten(2))
