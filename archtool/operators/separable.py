"""Separable self-attention: one query number per token weighs all keys (Mehta and Rastegari 2023, section 3.2).

``o(relu(v) * sum_T(softmax_T(q) * k))``: what all tokens share is one vector, so that the cost is linear in their
number. Axes: ``v`` (keys and values are multiplied, so that they share it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Separable(Operator):
    """Attention with one context vector.

    Attributes:
        runs: equal runs of the tokens that attend each for itself (the places of unfolded patches).
        bias / out_bias: biases on q, k, v / on the output projection (that of q changes nothing, but files have it).
    """

    kind: ClassVar[str] = "mix.attn.separable"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D (1 + 3 v) + T v"
    constraints: ClassVar[tuple[str, ...]] = ("the tokens are a multiple of runs",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"v": SELECT}
    causal: ClassVar[bool] = False

    runs: int = 1
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q`` (one row), ``k``, ``v`` and ``o``."""
        values = site.dim("v")
        return (
            Linear("q", dim(1), site.stream, self.bias),
            Linear("k", values, site.stream, self.bias),
            Linear("v", values, site.stream, self.bias),
            Linear("o", site.stream, values, self.out_bias),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """The weighted sum of the keys."""
        return flow.tokens * site.size("v")

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values and their product with the context."""
        return flow.tokens * (1 + 3 * site.size("v"))

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        return ("q", "k", "v") if norm == "pre" else ()

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        return "o" if norm == "branch" else ""

    def with_bias(self, parts: Sequence[str]) -> Separable:
        """See `Operator.with_bias`."""
        inner = any(part != "o" for part in parts)
        return replace(self, bias=self.bias or inner, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        return (
            in_text([branch(cls(bias=False), v=12)]),
            on_image([branch(cls(runs=4, bias=False, out_bias=False), v=8)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch

        q_BT1, mask = m.q(x), ctx.mask(False, 0)
        if mask is not None:
            q_BT1 = q_BT1.masked_fill(~mask[:, 0, 0, :, None], float("-inf"))
        q_BR1N = q_BT1.unflatten(1, (self.runs, -1)).transpose(2, 3)
        context_BR1V = torch.softmax(q_BR1N, dim=-1) @ m.k(x).unflatten(1, (self.runs, -1))
        v_BRNV = torch.relu(m.v(x)).unflatten(1, (self.runs, -1))
        return m.o((v_BRNV * context_BR1V).flatten(1, 2))
