"""Tokens of a grid as an image: the form in which an output with rows and columns leaves a model.

Inside, streams are (batch, tokens, channels); a map of classes or a feature map that is an *output* ends its block
with this layer, as pooled outputs end theirs with `head.pool`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part
from archtool.operators.grid import to_image

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ImageHead(Operator):
    """(B, T, C) → (B, C, H, W); nothing may read it but an output."""

    kind: ClassVar[str] = "head.image"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0"
    constraints: ClassVar[tuple[str, ...]] = ("last in its block, which is an output",)
    papers: ClassVar[tuple[int, ...]] = ()

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """No grid of tokens any more."""
        return Flow(flow.tokens)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.ir.architecture import Layer
        from archtool.operators.dense import Dense
        from archtool.operators.samples import alone, on_image

        arch = on_image([alone(Dense(act="relu"), units=12)])
        score, image = Layer("score", Dense(), residual=False), Layer("op", cls(), residual=False)
        head = replace(arch.block("head"), layers=(score, image))
        return (replace(arch, blocks=(*arch.blocks[:-1], head)),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, C) → (B, C, H, W)."""
        return to_image(x, ctx.flow.grid)
