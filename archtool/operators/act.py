"""An activation as a layer of its own, where a norm stands between it and what it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Act(Operator):
    """An activation on the stream."""

    kind: ClassVar[str] = "act"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (T D function values)"
    papers: ClassVar[tuple[int, ...]] = (100, 223)

    act: str

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.dense import Dense
        from archtool.operators.samples import alone, in_text

        return (in_text([alone(Dense(), units=12)], [alone(cls(act="silu"))], [alone(Dense(act="relu"), units=8)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """Element by element."""
        return activation(self.act)(x)
