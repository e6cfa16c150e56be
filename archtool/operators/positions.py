"""Learned absolute positions: one vector for each token of a sequence or grid of fixed length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Positions(Operator):
    """``x + table``; the table's axis ``positions`` is as long as the sequence."""

    kind: ClassVar[str] = "pos.abs"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"positions": frozenset()}
    constraints: ClassVar[tuple[str, ...]] = ("as many tokens as positions",)
    cost_form: ClassVar[str] = "0"
    papers: ClassVar[tuple[int, ...]] = (196, 224)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``position`` (tokens, width)."""
        return (Vector("position", (site.dim("positions"), site.stream), (Role.INDEX, Role.PRODUCES)),)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, on_image

        return (on_image([alone(cls(), positions=64)], [branch(Mlp(act="relu"), hidden=8)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return x + m.position
