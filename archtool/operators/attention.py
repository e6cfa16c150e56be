"""Softmax self-attention: multi-head, grouped-query, causal, windowed, rotary, soft-capped, with query-key norm.

Source: Vaswani et al. 2017; grouped queries from Ainslie et al. 2023. Axes: ``kv`` (kv heads), ``group`` (query
heads per kv head), ``pairs`` (rotated pairs of a head), ``qk`` (unrotated query/key dimensions), ``v``.
Query head ``h`` belongs to kv head ``h // group``. The score scale is a number of its own, so that pruning
dimensions of a head does not change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import Dim, concat, dim
from archtool.ir.operator import FREE, SELECT, Flow, Operator, Site
from archtool.ir.parts import Frequencies, Linear, Part, Witness
from archtool.operators.rotary import Rotary, attention_factor, cos_sin, for_length, rotate

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Attention(Operator):
    """Softmax self-attention.

    Attributes:
        scale: factor on the scores.
        causal / window: attend to earlier positions only / to the last ``window`` positions (0: all).
        softcap: ``cap * tanh(score / cap)`` on the scores (0: none).
        rotary: rotary positions, or None.
        qk_norm: norm on each head's queries and keys, or None.
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn"
    cost_form: ClassVar[str] = "T D h (2 qk + 2 v) + h T² (qk + v), h = kv · group heads"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {
        "kv": SELECT, "group": SELECT, "pairs": SELECT, "qk": SELECT | {"scale"}, "v": FREE,
    }  # fmt: skip
    papers: ClassVar[tuple[int, ...]] = (
        2, 4, 5, 7, 13, 16, 17, 21, 23, 30, 32, 38, 45, 48, 50, 55, 58, 59, 61, 66, 67, 80, 81, 85, 86, 94, 98,
        103, 104, 107, 108, 115, 118, 119, 124, 130, 131, 132, 133, 135, 140, 141, 144, 150, 164, 168, 183, 186,
        192, 196, 197, 207, 217, 223, 224, 226, 228, 230, 233, 236, 239, 240, 241, 242, 243, 246, 247, 254, 257,
    )  # fmt: skip

    scale: float
    causal: bool = False
    window: int = 0
    softcap: float = 0.0
    rotary: Rotary | None = None
    qk_norm: NormSpec | None = None
    bias: bool = True
    out_bias: bool = True

    def head_dim(self, site: Site) -> Dim:
        """One head's query/key dimensions."""
        if self.rotary is None:
            return site.dim("qk")
        turned = site.dim(2, "pairs")
        return dim(concat(turned, site.dim("qk"))) if self.rotary.partial else turned

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q``, ``k``, ``v``, ``o``; head counts; norms and frequencies where used."""
        head = self.head_dim(site)
        kv, heads = site.dim("kv").factors, site.dim("kv", "group").factors
        values = site.dim("v").factors
        parts: list[Part] = [
            Linear("q", dim(*heads, *head.factors), site.stream, self.bias),
            Linear("k", dim(*kv, *head.factors), site.stream, self.bias),
            Linear("v", dim(*kv, *values), site.stream, self.bias),
            Linear("o", site.stream, dim(*heads, *values), self.out_bias),
            Witness("heads", (site.dim("kv"), site.dim("group"))),
        ]
        if self.qk_norm:
            parts += [self.qk_norm.part("q_norm", head), self.qk_norm.part("k_norm", head)]
        if self.rotary:
            per_head = bool(self.rotary.kept) and isinstance(self.rotary.kept[0], tuple)
            dims = (site.dim("kv"), site.dim("pairs")) if per_head else (site.dim("pairs"),)
            tables = (dim(2),) if self.rotary.factors else ()
            parts.append(Frequencies("rotary", (*tables, *dims), self.rotary))
        return tuple(parts)

    def selected(self, local: str, keep: Any, per: str | None) -> Attention:
        """Rotary frequencies follow the pairs that are left."""
        if self.rotary and local == "pairs":
            return replace(self, rotary=self.rotary.selected(keep, per))
        if self.rotary and local == "kv":
            return replace(self, rotary=self.rotary.heads_selected(keep))
        return self

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values: heads × T × T × (K + V); the whole square, as kernels compute it."""
        heads = site.size("kv") * site.size("group")
        return heads * flow.tokens * flow.length * (self.head_dim(site).size(site.sizes) + site.size("v"))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Keys and values of every position (of the window where there is one)."""
        seen = min(flow.tokens, self.window) if self.window else flow.tokens
        return site.size("kv") * seen * (self.head_dim(site).size(site.sizes) + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values and the mixed values (scores are not materialised)."""
        head, values = self.head_dim(site).size(site.sizes), site.size("v")
        kv, heads = site.size("kv"), site.size("kv") * site.size("group")
        return flow.tokens * (heads * (head + values) + kv * (head + values))

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        return "o" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        return ("q", "k", "v") if norm == "pre" else ()

    def with_bias(self, parts: Sequence[str]) -> Attention:
        """See `Operator.with_bias`."""
        inner = any(part != "o" for part in parts)
        return replace(self, bias=self.bias or inner, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        plain = branch(cls(scale=0.5), kv=4, group=1, qk=4, v=4)
        grouped = cls(scale=0.5, causal=True, window=5, softcap=8.0, qk_norm=NormSpec("rms"), bias=False)
        turned = cls(scale=0.5, causal=True, rotary=Rotary(theta=100.0, pairs=2))
        return (
            on_image([plain], width=16),
            in_text([branch(grouped, kv=2, group=2, qk=4, v=6)]),
            in_text([branch(turned, kv=2, group=2, pairs=2, v=4)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, keys and values of earlier tokens are prepended."""
        return self.attend(m, x, ctx)

    def attend(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """Project, mix and project back, each sequence on its own."""
        kv, group = m.heads.shape[0], m.heads.shape[1]
        q, k, v = (split_heads(y, n) for y, n in ((m.q(x), kv * group), (m.k(x), kv), (m.v(x), kv)))
        if self.qk_norm:
            q, k = m.q_norm(q), m.k_norm(k)
        if self.rotary:
            cos, sin = ctx.once(("rotary", id(m.rotary), q.dtype), lambda: self._cos_sin(m, ctx, q.dtype))
            q = rotate(q, *(_per_query(t, group) for t in (cos, sin)))
            k = rotate(k, cos, sin)
        k, v = ctx.extend(k, v)
        mixed = self._mix(m, q, repeat_heads(k, group), repeat_heads(v, group), ctx)
        return m.o(mixed.transpose(1, 2).flatten(2))

    def _cos_sin(self, m: Any, ctx: Any, dtype: Any) -> tuple[Tensor, Tensor]:
        """Tables in the stream's dtype; angles are computed in the frequencies' (float32)."""
        assert self.rotary is not None
        table = for_length(m.rotary, self.rotary, ctx.positions)
        cos, sin = cos_sin(table, ctx.positions, attention_factor(self.rotary))
        return cos.to(dtype), sin.to(dtype)

    def _mix(self, m: Any, q: Tensor, k: Tensor, v: Tensor, ctx: Any) -> Tensor:
        import torch.nn.functional as F

        mask = ctx.mask(self.causal, self.window)
        if self.softcap:
            return _capped(q, k, v, ctx.full_mask(self.causal, self.window), self.scale, self.softcap)
        causal = self.causal and mask is None and ctx.past == 0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=self.scale)


def split_heads(x_BTE: Tensor, heads: int) -> Tensor:
    """(B, T, heads × K) → (B, heads, T, K)."""
    return x_BTE.unflatten(-1, (heads, -1)).transpose(1, 2)


def repeat_heads(x_BHTK: Tensor, group: int) -> Tensor:
    """Each kv head ``group`` times, in place of its queries."""
    if group == 1:
        return x_BHTK
    return x_BHTK.unsqueeze(2).expand(-1, -1, group, -1, -1).flatten(1, 2)


def _per_query(table: Tensor, group: int) -> Tensor:
    """Per-kv-head cosines for every query head; shared tables pass."""
    return table if table.shape[1] == 1 else table.repeat_interleave(group, dim=1)


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float) -> Tensor:
    """Attention with ``cap * tanh(score / cap)``; softmax in float32 or wider."""
    import torch

    wide = torch.promote_types(q.dtype, torch.float32)

    scores = torch.tanh(torch.matmul(q, k.transpose(2, 3)) * scale / cap) * cap
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1, dtype=wide).to(q.dtype) @ v
