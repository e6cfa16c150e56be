"""Forecast head: the tokens of each variate, flattened or pooled, to the rows that come (Nie et al. 2023).

Axes: ``horizon``, the rows that are forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part
from archtool.operators.variates import pooled, projections, table

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Forecast(Operator):
    """One linear map from a variate's vector to its future.

    Attributes:
        variates: how many a sample has.
        tokens: tokens of a variate that enter, where there is no pool.
        pool: ``""`` (all tokens, one after another), ``"mean"``, ``"max"`` or ``"first"``.
        shared: one projection for all variates, else one for each.
    """

    kind: ClassVar[str] = "head.forecast"
    on_grid: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D horizon, or variates D horizon with a pool"
    constraints: ClassVar[tuple[str, ...]] = ("tokens on a grid of as many variates, and tokens of each, as stated",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"horizon": frozenset()}
    papers: ClassVar[tuple[int, ...]] = (23, 137, 178)

    variates: int
    tokens: int = 0
    pool: str = ""
    shared: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``proj`` (horizon, tokens × width), or (horizon, width) after a pool; one or one per variate."""
        entering = site.stream if self.pool else dim(self.tokens, *site.stream.factors)
        return tuple(projections("proj", site.dim("horizon"), entering, self.variates, self.shared))

    def out(self, site: Site) -> Dim:
        """The variates."""
        return dim(self.variates)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The rows that are forecast."""
        return Flow(site.size("horizon"))

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per variate that is projected with it."""
        return self.variates if self.shared else 1

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.series_samples import forecaster

        whole, apart = cls(variates=3, tokens=6), cls(variates=3, tokens=6, shared=False)
        return tuple(forecaster(head=head) for head in (whole, apart, cls(variates=3, pool="max")))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B × V, T, D) or (B, V × T, D) → (B, horizon, V)."""
        import torch

        vectors_BVE = pooled(table(x, ctx.flow.grid), self.pool)
        if self.shared:
            return m.proj(vectors_BVE).transpose(1, 2)
        return torch.stack([getattr(m, f"proj{i}")(vectors_BVE[:, i]) for i in range(self.variates)], dim=2)
