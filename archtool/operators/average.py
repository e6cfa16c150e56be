"""The mean of several streams of one width: DeiT's two heads, averaged predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Average(Operator):
    """Mean of the streams that enter."""

    kind: ClassVar[str] = "topo.average"
    cost_form: ClassVar[str] = "0"
    papers: ClassVar[tuple[int, ...]] = (196,)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import branch, followed, in_text

        return (followed(in_text([branch(Mlp(act="relu"), hidden=8)]), cls(), inputs=("embed", "b0")),)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """A tuple of equal shapes → their mean."""
        return sum(x[1:], start=x[0]) / len(x)
