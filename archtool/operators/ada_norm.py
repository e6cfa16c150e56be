"""Adaptive norm: gain and shift of a norm come from a condition (time, class, style).

Source: Peebles and Xie 2023 (DiT, adaLN-zero: shift, scale and gate from the condition), Huang and Belongie 2017
(AdaIN). The condition is a stream of one token that the layer reads beside its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import concat, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Linear, Norm, Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class AdaNorm(Operator):
    """``norm(x) (1 + scale(c)) + shift(c)``; ``norm`` has no tensors of its own.

    Attributes:
        norm: kind of the norm (``"layer"``, ``"rms"``, ``"group"``).
        eps: its epsilon.
        act: activation on the condition before the linear map.
    """

    kind: ClassVar[str] = "norm.ada"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "2 D C (C: width of the condition)"
    constraints: ClassVar[tuple[str, ...]] = ("reads a stream of one token",)
    papers: ClassVar[tuple[int, ...]] = (1, 30, 61, 71, 81, 98, 158, 228, 236, 264)

    norm: str = "layer"
    eps: float = 1e-6
    act: str = "silu"

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``norm`` without tensors; ``modulate`` (shift ⊕ scale, condition)."""
        both = dim(concat(site.stream, site.stream))
        return Norm("norm", site.stream, self.norm, self.eps, gain=False), Linear("modulate", both, site.inputs[1])

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per sample."""
        return 1

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        return tuple(_conditioned(cls(norm=norm)) for norm in ("layer", "rms", "group"))

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """(B, T, D) beside (B, 1, C) → (B, T, D)."""
        x_BTD, condition_B1C = x
        shift, scale = m.modulate(activation(self.act)(condition_B1C)).chunk(2, dim=-1)
        return m.norm(x_BTD) * (1 + scale) + shift


def _conditioned(op: Operator) -> Architecture:
    """A text model with a block that reads a vector ``condition`` of three numbers."""
    from archtool.ir.architecture import Block, Layer
    from archtool.operators.mlp import Mlp
    from archtool.operators.point_stem import PointStem
    from archtool.operators.samples import branch, followed, in_text

    base = in_text([branch(Mlp(act="relu"), hidden=8)])
    lift = Layer("op", PointStem(width="c.width", features="conditions", points=1, act=""), residual=False)
    blocks = (*base.blocks[:-2], Block("cond", (lift,), inputs=("condition",)), *base.blocks[-2:])
    sizes = (*base.sizes, ("c.width", 6), ("conditions", 3))
    model = replace(base, inputs=("input_ids", "condition"), blocks=blocks, sizes=sizes)
    return followed(model, op, inputs=("b0",), reads=("cond",))
