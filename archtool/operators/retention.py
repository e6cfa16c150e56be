"""Retention: causal mixing whose weights fall with the distance, γ^(t-s), in place of a softmax (Sun et al. 2023).

As in ViR (Hatamizadeh et al. 2023) queries and keys are not rotated. Axes: ``kv`` (heads), ``qk``, ``v``. Each head's
γ is stored; the state of generation is one matrix per head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Kind, Linear, Part, Role, Vector, Witness
from archtool.operators.chunked import chunked, chunked_macs
from archtool.operators.recurrence import real_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

PER_HEAD = NormSpec("rms", 1e-6, gain=False)


@dataclass(frozen=True, kw_only=True)
class Retention(Operator):
    """``o(norm(retention(q, k, v)) * silu(gate(x)))``; the norm is over each head.

    Attributes:
        scale: factor on the scores.
        gate: whether the result is gated.
        norm: norm of each head's result.
    """

    kind: ClassVar[str] = "mix.retention"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "2 T D kv (qk + v) + gate: T D kv v + T kv (min(T, 64) (qk + v) + 2 qk v)"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "qk": SELECT, "v": SELECT}
    papers: ClassVar[tuple[int, ...]] = (94,)
    causal: ClassVar[bool] = True

    scale: float
    gate: bool = True
    norm: NormSpec = PER_HEAD
    bias: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``q``, ``k``, ``v``, ``o`` and perhaps ``gate``; head count; ``decay`` (γ) of each head."""
        head, values = site.dim("kv", "qk"), site.dim("kv", "v")
        gate = (Linear("gate", values, site.stream, self.bias),) if self.gate else ()
        return (
            Linear("q", head, site.stream, self.bias),
            Linear("k", head, site.stream, self.bias),
            Linear("v", values, site.stream, self.bias),
            *gate,
            Linear("o", site.stream, values, self.bias),
            Witness("heads", (site.dim("kv"),)),
            Vector("decay", (site.dim("kv"),), (Role.ELEMENTWISE,), "retention", Kind.BUFFER),
            self.norm.part("norm", site.dim("v")),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """See `chunked_macs`."""
        return site.size("kv") * flow.sequences * chunked_macs(flow.length, site.size("qk"), site.size("v"))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """A matrix per head."""
        return site.size("kv") * site.size("qk") * site.size("v")

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values, the gate and the result."""
        return flow.tokens * site.size("kv") * (2 * site.size("qk") + (3 if self.gate else 2) * site.size("v"))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        plain = cls(scale=0.5, gate=False, norm=NormSpec("layer"), bias=True)
        return (
            in_text([branch(cls(scale=0.4), kv=3, qk=6, v=4)]),
            in_text([branch(plain, kv=2, qk=4, v=6)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, the tokens continue those before."""
        import torch
        import torch.nn.functional as F

        heads, wide = m.heads.shape[0], torch.promote_types(x.dtype, torch.float32)
        real = real_tokens(ctx, x)
        k_BTE = m.k(x) if real is None else m.k(x) * real
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2).to(wide) for y in (m.q(x), k_BTE, m.v(x)))
        (state,) = ctx.swap(lambda: (v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1]),))
        mixed, state = chunked(q * self.scale, k, v, m.decay.to(wide), state)
        ctx.store((state,))
        out_BTE = m.norm(mixed.transpose(1, 2).to(x.dtype)).flatten(2)
        return m.o(out_BTE * F.silu(m.gate(x)) if self.gate else out_BTE)
