"""Convolution on the grid of tokens: point-wise, dense, depthwise, strided, dilated.

Axes: none of its own; what leaves is the stream (``into`` empty) or an axis that the architecture names. A norm
after the convolution is the layer's ``branch``. Kinds that read pixels or only reduce the grid build on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, concat, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Conv2d, Part
from archtool.operators.activation import activation
from archtool.operators.grid import flow_after, to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class GridConv(Operator):
    """``act(conv(x) + b)`` on the grid; several streams enter side by side.

    Attributes:
        kernel / stride / padding / dilation: rows and columns.
        into: axis name of the channels that leave; ``""``: those that entered.
        depthwise: every channel has a kernel of its own, or ``multiplier`` of them (``into`` is empty).
        act: activation.
        bias: whether there is a bias.
    """

    kind: ClassVar[str] = "mix.conv"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T' kernel² D D' (depthwise: T' kernel² D)"
    papers: ClassVar[tuple[int, ...]] = ()

    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    into: str = ""
    depthwise: bool = False
    multiplier: int = 1
    act: str = "identity"
    bias: bool = True

    def entering(self, site: Site) -> Dim:
        """The channels that enter."""
        return site.stream if len(site.inputs) == 1 else dim(concat(*site.inputs))

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``conv`` (out, in, rows, columns)."""
        inp = dim(1) if self.depthwise else self.entering(site)
        shape = (self.kernel, self.stride, self.padding, self.bias, self.dilation)
        return (Conv2d("conv", self.out(site), inp, *shape),)

    def out(self, site: Site) -> Dim:
        """The channels that leave."""
        if self.multiplier > 1:
            return dim(*self.entering(site).factors, self.multiplier)
        return dim(self.into) if self.into else self.entering(site)

    def reach(self) -> tuple[int, ...]:
        """Cells that one output sees, with dilation."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The grid that the stride leaves."""
        return flow_after(flow, self.reach(), self.stride, self.padding)

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per cell that leaves."""
        after = flow_after(flow, self.reach(), self.stride, self.padding)
        return math.prod(after.grid or ()) * after.sequences

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        return "conv" if norm == "branch" and self.act == "identity" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        return ("conv",) if norm == "pre" and math.prod(self.kernel) == 1 and not any(self.padding) else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import alone, branch, followed, on_image

        sizes = {"mid.width": 12}
        wider = alone(cls(into="mid.width", stride=(2, 2), act="relu"))
        dilated = branch(cls(depthwise=True, dilation=(2, 2), padding=(2, 2), bias=False))
        joined = followed(on_image([dilated]), cls(kernel=(1, 1), padding=(0, 0), into="s0.width"), ("embed", "b0"))
        doubled = alone(cls(depthwise=True, multiplier=2, stride=(2, 2)))
        narrow = alone(cls(kernel=(1, 1), padding=(0, 0), into="mid.width"))
        return on_image([wider], sizes=sizes), joined, on_image([doubled], [narrow], sizes=sizes)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """(B, T, C) → (B, T', C')."""
        import torch

        x_BTC = torch.cat(x, dim=-1) if isinstance(x, tuple) else x
        return activation(self.act)(to_tokens(m.conv(to_image(x_BTC, ctx.flow.grid))))
