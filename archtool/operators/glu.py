"""Gated perceptron on each token: ``down(act(gate(x)) * up(x))`` (Shazeer 2020, GLU variants).

Axes: ``hidden`` (F); gate and up both produce it. Scaling ``up`` against ``down`` is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Glu(Operator):
    """``down(act(gate(x)) * up(x))``."""

    kind: ClassVar[str] = "ffn.glu"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "3 T D hidden"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    papers: ClassVar[tuple[int, ...]] = (21, 26, 41, 76, 98, 109, 138, 236)

    act: str = "silu"
    bias: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``gate``, ``up`` (hidden, in) and ``down`` (in, hidden)."""
        hidden = site.dim("hidden")
        return (
            Linear("gate", hidden, site.stream, self.bias),
            Linear("up", hidden, site.stream, self.bias),
            Linear("down", site.stream, hidden, self.bias),
        )

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Gate, up and their product."""
        return 3 * flow.tokens * site.size("hidden")

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        return "down" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        return ("gate", "up") if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        return (in_text([branch(cls(act="silu"), hidden=24)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return m.down(activation(self.act)(m.gate(x)) * m.up(x))
