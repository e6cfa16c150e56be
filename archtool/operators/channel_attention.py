"""Attention between channels: scores are products over all tokens, so that cost is linear in their number.

Source: El-Nouby et al. 2021 (XCA), Zamir et al. 2022 (Restormer: with depthwise convolutions), Ilbert et al. 2024
(SAMformer: plain scores). Axes: ``kv`` (heads), ``v`` (channels of a head's queries, which leave), ``inner`` (channels
of its keys and values: the softmax runs over them, so they stay). Shapes: `H` heads, `V` and `I` these channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part, Role, Vector, Witness
from archtool.operators.attention import split_heads
from archtool.operators.grid import to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ChannelAttention(Operator):
    """``v softmax(qᵀ k scale)ᵀ``, per head.

    Attributes:
        scale: factor on the scores.
        normalize: divide queries and keys by their norm over the tokens, and learn a temperature per head.
        kernel: depthwise convolution of queries, keys and values on the grid (0: none; odd).
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.channel"
    causal: ClassVar[bool] = False
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D kv (2 v + 2 inner) + 2 T kv v inner"
    constraints: ClassVar[tuple[str, ...]] = ("a grid, where it convolves",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "v": SELECT, "inner": frozenset()}
    papers: ClassVar[tuple[int, ...]] = (34, 41, 109, 112, 178, 238)

    scale: float = 1.0
    normalize: bool = True
    kernel: int = 0
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q``, ``k``, ``v``, ``o``; the head count; ``temperature``; convolutions where used."""
        channels = {"q": site.dim("kv", "v"), "k": site.dim("kv", "inner"), "v": site.dim("kv", "inner")}
        parts: list[Part] = [Linear(name, leaving, site.stream, self.bias) for name, leaving in channels.items()]
        parts += [Linear("o", site.stream, channels["q"], self.out_bias), Witness("heads", (site.dim("kv"),))]
        if self.normalize:
            per_head = (site.dim("kv"), dim(1), dim(1))
            parts.append(Vector("temperature", per_head, (Role.ELEMENTWISE,) * 3, "ones"))
        if self.kernel:
            parts += [self._conv(f"{name}_conv", leaving) for name, leaving in channels.items()]
        return tuple(parts)

    def _conv(self, name: str, channels: Dim) -> Conv2d:
        square, half = (self.kernel, self.kernel), (self.kernel // 2, self.kernel // 2)
        return Conv2d(name, channels, dim(1), square, padding=half, bias=self.bias)

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and mixed values: heads × V × I × T each."""
        return 2 * site.size("kv") * site.size("v") * site.size("inner") * flow.tokens

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values and what leaves the heads."""
        return 2 * flow.tokens * site.size("kv") * (site.size("v") + site.size("inner"))

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "o" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("q", "k", "v") if norm == "pre" else ()

    def with_bias(self, parts: Sequence[str]) -> ChannelAttention:
        """See `Operator.with_bias`."""
        return replace(self, bias=self.bias or set(parts) != {"o"}, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        convolved = branch(cls(kernel=3, bias=False), kv=2, v=6, inner=4)
        return on_image([convolved]), in_text([branch(cls(scale=0.2, normalize=False), kv=2, v=4, inner=5)])

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch
        import torch.nn.functional as F

        q, k, v = m.q(x), m.k(x), m.v(x)
        if self.kernel:
            convs = ((m.q_conv, q), (m.k_conv, k), (m.v_conv, v))
            q, k, v = (to_tokens(conv(to_image(y, ctx.flow.grid))) for conv, y in convs)
        padding_BT = ctx.padding(ctx.root)
        if padding_BT is not None:
            k = k * padding_BT[..., None]
            q = q * padding_BT[..., None]
        q, k, v = (split_heads(y, m.heads.shape[0]) for y in (q, k, v))
        if self.normalize:
            q, k = F.normalize(q, dim=-2) * m.temperature, F.normalize(k, dim=-2)
        weights_BHVI = torch.softmax(q.transpose(2, 3) @ k * self.scale, dim=-1)
        return m.o((v @ weights_BHVI.transpose(2, 3)).transpose(1, 2).flatten(2))
