"""Inverted residual: expand, depthwise, project (Sandler et al. 2018, section 3.3; with a gate: Tan and Le 2019).

``project(gate(act(norm(depthwise(act(norm(expand(x)))))))``; the norm after ``project`` and the residual are the
layer's. Axes: ``hidden`` (the expansion), ``inner`` (the gate's bottleneck). What leaves is the stream (``into`` empty)
or an axis that the architecture names. A convolution without a norm after it has a bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import Dim, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part
from archtool.operators.activation import activation
from archtool.operators.grid import flow_after, to_image, to_tokens
from archtool.operators.squeeze_excite import gate

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

BATCH = NormSpec("batch")


@dataclass(frozen=True, kw_only=True)
class MBConv(Operator):
    """Expand to ``hidden`` channels, mix each of them on the grid, project.

    Attributes:
        kernel / stride / dilation: of the depthwise convolution, padded so that stride 1 keeps the grid.
        into: axis name of the channels that leave; ``""``: those that entered.
        act: activation.
        se: activation in a squeeze-excite gate before ``project``; ``""``: no gate.
        expand_norm / depthwise_norm: norms inside; a convolution without one has a bias.
        bias: whether ``project`` has a bias.
    """

    kind: ClassVar[str] = "mix.mbconv"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D hidden + T' hidden (kernel² + D') (+ 2 hidden inner)"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT, "inner": SELECT}
    papers: ClassVar[tuple[int, ...]] = (69, 77, 92, 101, 210, 239, 246)

    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    into: str = ""
    act: str = "silu"
    se: str = ""
    expand_norm: NormSpec | None = BATCH
    depthwise_norm: NormSpec | None = BATCH
    bias: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``expand``, ``depthwise``, ``project`` with the norms between; ``squeeze`` and ``excite`` with a gate."""
        hidden, inner = site.dim("hidden"), site.dim("inner")
        around = (self.stride, self.padding(), self.depthwise_norm is None, self.dilation)
        found: list[Part] = [
            Conv2d("expand", hidden, site.stream, (1, 1), bias=self.expand_norm is None),
            Conv2d("depthwise", hidden, dim(1), self.kernel, *around),
            Conv2d("project", self.out(site), hidden, (1, 1), bias=self.bias),
        ]
        if self.expand_norm:
            found.append(self.expand_norm.part("expand_norm", hidden))
        if self.depthwise_norm:
            found.append(self.depthwise_norm.part("depthwise_norm", hidden))
        if self.se:
            found += [Linear("squeeze", inner, hidden), Linear("excite", hidden, inner)]
        return tuple(found)

    def padding(self) -> tuple[int, int]:
        """Cells around the grid."""
        rows, columns = ((k - 1) // 2 * d for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    def out(self, site: Site) -> Dim:
        """The channels that leave."""
        return dim(self.into) if self.into else site.stream

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The grid that the stride leaves."""
        reach = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return flow_after(flow, reach, self.stride, self.padding())

    def calls(self, part: Part, flow: Flow) -> int:
        """``expand`` once per cell that enters, the gate once per sequence, the others once per cell that leaves."""
        if part.name == "expand":
            return flow.tokens
        if part.name in ("squeeze", "excite"):
            return flow.sequences
        reach = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        after = flow_after(flow, reach, self.stride, self.padding())
        return math.prod(after.grid or ()) * after.sequences

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The expanded channels before and after the depthwise convolution."""
        return (flow.tokens + self.out_flow(site, flow).tokens) * site.size("hidden")

    def feeder(self, norm: str) -> str:
        """See `Operator.before`."""
        return {"expand_norm": "expand", "depthwise_norm": "depthwise", "branch": "project"}.get(norm, "")

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.after`."""
        return ("expand",) if norm == "pre" and not self.expand_norm else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.ir.architecture import Layer
        from archtool.operators.samples import on_image

        gated = Layer("op", cls(se="silu"), branch=BATCH), {"hidden": 20, "inner": 6}
        down = Layer("op", cls(kernel=(5, 5), stride=(2, 2), into="mid.width"), branch=BATCH, residual=False)
        plain = Layer("op", cls(dilation=(2, 2), expand_norm=None, depthwise_norm=None, bias=True, act="relu"))
        blocks = ([gated], [(down, {"hidden": 18})], [(plain, {"hidden": 14})])
        return (on_image(*blocks, sizes={"mid.width": 12}, stages=("s0", "", "s1")),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, C) → (B, T', C')."""
        act = activation(self.act)
        x_BCHW = m.expand(to_image(x, ctx.flow.grid))
        x_BTF = to_tokens(x_BCHW)
        x_BTF = act(m.expand_norm(x_BTF) if self.expand_norm else x_BTF)
        x_BCHW = m.depthwise(to_image(x_BTF, x_BCHW.shape[2:]))
        x_BTF = to_tokens(x_BCHW)
        x_BTF = act(m.depthwise_norm(x_BTF) if self.depthwise_norm else x_BTF)
        if self.se:
            x_BTF = x_BTF * gate(m.squeeze, m.excite, x_BTF, self.se)
        return to_tokens(m.project(to_image(x_BTF, x_BCHW.shape[2:])))
