"""Attention through a few latents: tokens are gathered into latents, these attend to each other and are spread back.

Source: Wu et al. 2024 (Transolver's physics attention: every token is shared out among slices), Jaegle et al. 2021
(Perceiver: every latent attends to all tokens). Axes: ``kv`` (heads), ``assign`` (features that a token is assigned
by), ``inner`` (what a latent holds), ``qk`` and ``v`` (attention between latents), ``latents`` (their number: softmaxes
run over them, so it stays). Matrices on latents are shared by the heads. Shapes: `H` heads, `S` latents, `A`, `I`, `V`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part, Role, Vector, Witness
from archtool.operators.attention import split_heads

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class LatentAttention(Operator):
    """``spread(attention(gather(x)))`` over learned latents.

    Attributes:
        scale: factor on the scores between latents.
        over: what a gathering softmax runs over: ``"slices"`` (a token is shared out among the latents, a latent is
            the weighted mean of its share) or ``"tokens"`` (a latent attends to all tokens).
        bias / out_bias: biases on the tokens' projections / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.latent"
    causal: ClassVar[bool] = False
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = (
        "T D kv (assign + inner + v) + T S kv (assign + inner + v) + S kv inner (2 qk + v) + S² kv (qk + v), S latents"
    )
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {
        "kv": SELECT, "assign": SELECT, "inner": SELECT, "qk": SELECT, "v": SELECT, "latents": frozenset(),
    }  # fmt: skip
    papers: ClassVar[tuple[int, ...]] = (8, 44, 49, 148, 179, 258)

    scale: float
    over: str = "slices"
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Tokens to ``assign`` and ``fields``, ``o`` back; ``latents`` and their matrices ``q``, ``k``, ``v``."""
        matrix, each = (Role.PRODUCES, Role.CONSUMES), (Role.ELEMENTWISE,)
        inner = site.dim("inner")
        return (
            Linear("assign", site.dim("kv", "assign"), site.stream, self.bias),
            Linear("fields", site.dim("kv", "inner"), site.stream, self.bias),
            Linear("o", site.stream, site.dim("kv", "v"), self.out_bias),
            Vector("latents", (site.dim("latents"), site.dim("assign")), matrix),
            Vector("offset", (site.dim("latents"),), each, "zeros"),
            Vector("temperature", (site.dim("kv"), dim(1), dim(1)), each * 3, "ones"),
            *(Vector(name, (site.dim(axis), inner), matrix) for name, axis in (("q", "qk"), ("k", "qk"), ("v", "v"))),
            Witness("heads", (site.dim("kv"),)),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Assigning, gathering and spreading per token; projections and attention per latent."""
        heads, latents, inner = site.size("kv"), site.size("latents"), site.size("inner")
        qk, v = site.size("qk"), site.size("v")
        tokens = flow.tokens * latents * (site.size("assign") + inner + v)
        between = latents * inner * (2 * qk + v) + latents * latents * (qk + v)
        return heads * (tokens + flow.sequences * between)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Projections and both sets of weights."""
        per_head = site.size("assign") + site.size("inner") + site.size("v") + 2 * site.size("latents")
        return flow.tokens * site.size("kv") * per_head

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "o" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("assign", "fields") if norm == "pre" else ()

    def with_bias(self, parts: Sequence[str]) -> LatentAttention:
        """See `Operator.with_bias`."""
        return replace(self, bias=self.bias or set(parts) != {"o"}, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        sizes = {"kv": 2, "assign": 4, "inner": 6, "qk": 4, "v": 5, "latents": 3}
        return (
            on_image([branch(cls(scale=0.5, bias=False), **sizes)]),
            in_text([branch(cls(scale=0.5), **sizes)], [branch(cls(scale=0.5, over="tokens"), **sizes)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch
        import torch.nn.functional as F

        keys_BHTA, fields_BHTI = (split_heads(y, m.heads.shape[0]) for y in (m.assign(x), m.fields(x)))
        scores_BHTS = F.linear(keys_BHTA, m.latents, m.offset) * m.temperature
        spread_BHTS = torch.softmax(scores_BHTS, dim=-1)
        gather_BHTS = self._gathering(scores_BHTS, spread_BHTS, ctx.padding(ctx.root))
        latent_BHSI = gather_BHTS.transpose(2, 3) @ fields_BHTI
        q, k, v = (F.linear(latent_BHSI, matrix) for matrix in (m.q, m.k, m.v))
        mixed_BHSV = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return m.o((spread_BHTS @ mixed_BHSV).transpose(1, 2).flatten(2))

    def _gathering(self, scores_BHTS: Tensor, spread_BHTS: Tensor, padding_BT: Tensor | None) -> Tensor:
        """Weights of the tokens in each latent; padding has none."""
        import torch

        if self.over == "tokens":
            if padding_BT is not None:
                lowest = torch.finfo(scores_BHTS.dtype).min
                scores_BHTS = scores_BHTS.masked_fill(padding_BT[:, None, :, None] == 0, lowest)
            return torch.softmax(scores_BHTS, dim=2)
        if padding_BT is not None:
            spread_BHTS = spread_BHTS * padding_BT[:, None, :, None]
        return spread_BHTS / (spread_BHTS.sum(2, keepdim=True) + EPS)
