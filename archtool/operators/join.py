"""Several streams side by side: a skip beside a stream, the groups of a split stream put together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, concat, dim
from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Join(Operator):
    """The channels of all streams that enter, in their order."""

    kind: ClassVar[str] = "topo.join"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0"
    constraints: ClassVar[tuple[str, ...]] = ("streams of as many tokens",)
    papers: ClassVar[tuple[int, ...]] = ()

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out(self, site: Site) -> Dim:
        """All channels."""
        return dim(concat(*site.inputs))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.dense import Dense
        from archtool.operators.samples import alone, followed, in_text

        return (followed(in_text([alone(Dense(act="relu"), units=6)]), cls(), ("b0", "embed")),)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """A tuple of (B, T, Dᵢ) → (B, T, Σ Dᵢ)."""
        import torch

        return torch.cat(x, dim=-1) if isinstance(x, tuple) else x
