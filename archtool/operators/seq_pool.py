"""Sequence pooling: a weighted mean of all tokens, the weights a softmax over one learned score per token.

Source: Hassani et al. 2021 (Compact Convolutional Transformers), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class SeqPool(Operator):
    """(B, T, D) → (B, D): ``softmax(x w + b)ᵀ x``."""

    kind: ClassVar[str] = "head.seqpool"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "2 T D"
    papers: ClassVar[tuple[int, ...]] = (55,)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``score`` (1, width)."""
        return (Linear("score", dim(1), site.stream),)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """One vector."""
        return Flow(1)

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """The weighted sum."""
        return flow.tokens * site.stream.size(site.sizes)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import branch, in_text, pooled_by

        return (pooled_by(in_text([branch(Mlp(act="relu"), hidden=8)]), cls()),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, D)."""
        import torch

        weights_BT1 = torch.softmax(m.score(x), dim=1)
        return torch.matmul(weights_BT1.transpose(1, 2), x).squeeze(1)
