"""The mean of several streams of one width: DeiT's two heads, averaged predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Average(Operator):
    """Mean of the streams that enter."""

    kind: ClassVar[str] = "topo.average"
    papers: ClassVar[tuple[int, ...]] = (196,)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """A tuple of equal shapes → their mean."""
        return sum(x[1:], start=x[0]) / len(x)
