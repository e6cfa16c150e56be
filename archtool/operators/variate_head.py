"""What the tokens of a series say, sample by sample: their table, or one vector of all variates for a class head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part
from archtool.operators.variates import pooled, table

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class VariateHead(Operator):
    """(B × V, T, D) → (B, V, T, D), or (B, V × D) after a pool.

    Attributes:
        variates: how many a sample has.
        pool: ``""``, ``"mean"``, ``"max"`` or ``"first"``.
    """

    kind: ClassVar[str] = "head.variates"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0"
    constraints: ClassVar[tuple[str, ...]] = ("tokens on a grid of as many variates as stated",)

    variates: int
    pool: str = ""

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out(self, site: Site) -> Dim:
        """The width, after a pool that of all variates."""
        return dim(self.variates, *site.stream.factors) if self.pool else site.stream

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """One vector after a pool."""
        return Flow(1) if self.pool else flow

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.series_samples import on_series

        return tuple(on_series(head=cls(variates=3, pool=pool)) for pool in ("mean", "max", "first"))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """See the class."""
        x_BVTD = table(x, ctx.flow.grid)
        return pooled(x_BVTD, self.pool).flatten(1) if self.pool else x_BVTD
