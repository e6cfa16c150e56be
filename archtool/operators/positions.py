"""A learned vector for each position, added to the stream (absolute positions as a layer of their own).

Stems bring their own table where it is added to what they give; this stands where a norm comes in between. Axes:
``positions``, the rows of the table.
"""

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
    """``x + table`` at the tokens' positions."""

    kind: ClassVar[str] = "pos.abs"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"positions": frozenset()}
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("no more tokens than positions",)
    cost_form: ClassVar[str] = "0"
    papers: ClassVar[tuple[int, ...]] = (196, 224)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``table`` (positions, width)."""
        return (Vector("table", (site.dim("positions"), site.stream), (Role.INDEX, Role.PRODUCES)),)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, in_text

        return (in_text([alone(cls(), positions=256)], [branch(Mlp(act="relu"), hidden=8)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return x + m.table[ctx.past : ctx.past + x.shape[1]]
