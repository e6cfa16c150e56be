"""One linear layer with an activation: poolers, transforms before a head, classifiers.

Axes: ``units``, the outputs. A classifier's units are its classes. A transform before a tied vocabulary head
has no units of its own: its outputs live on the stream that the token table produces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import SELECT, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Dense(Operator):
    """``act(x Wᵀ + b)``; works on (B, T, D) and (B, D).

    Attributes:
        act: activation.
        bias: whether there is a bias.
        into: axis name of the outputs where another part owns it (``"s0.width"``); ``""``: ``units``.
    """

    kind: ClassVar[str] = "head.dense"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D units"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"units": SELECT}
    papers: ClassVar[tuple[int, ...]] = (
        2,
        19,
        23,
        25,
        45,
        67,
        115,
        129,
        131,
        133,
        137,
        144,
        161,
        178,
        179,
        222,
    )

    act: str = "identity"
    bias: bool = True
    into: str = ""

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``proj`` (units, in)."""
        return (Linear("proj", self.out(site), site.stream, self.bias),)

    def out(self, site: Site) -> Dim:
        """The units."""
        return dim(self.into) if self.into else site.dim("units")

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        return "proj" if norm == "branch" and self.act == "identity" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        return ("proj",) if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import alone, in_text

        return (in_text([alone(cls(act="tanh"), units=12)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(..., D) → (..., units)."""
        return activation(self.act)(m.proj(x))
