"""One learned number that multiplies the whole stream: a coefficient of a residual or of its branch.

Source: Shen et al. 2022 (SReT), equation 6; Bachlechner et al. 2021 (ReZero) for a coefficient of the branch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Gain(Operator):
    """``gain * x``."""

    kind: ClassVar[str] = "gain"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (T D products)"
    papers: ClassVar[tuple[int, ...]] = (14,)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``gain`` (1)."""
        return (Vector("gain", (dim(1),), (Role.ELEMENTWISE,), "ones"),)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import branch, in_text, weighed

        return (in_text(weighed(branch(Mlp(act="gelu"), hidden=24))),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(..., D) → (..., D)."""
        return x * m.gain
