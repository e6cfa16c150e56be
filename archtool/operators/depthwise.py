"""Depthwise convolution as a token mixer: every channel has a kernel of its own, along a sequence or on the grid.

Source: Liu et al. 2022 (ConvNeXt), section 2.5, for the 7 × 7 mixer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Conv1d, Conv2d, Part
from archtool.operators.grid import to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv(Operator):
    """A convolution of each channel that leaves as many tokens as entered.

    Attributes:
        kernel: one odd number along the sequence, or rows and columns.
        dilation: steps between the taps, one per dimension; ``()``: 1.
        bias: whether there is a bias.
    """

    kind: ClassVar[str] = "mix.conv.dw"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("odd kernels", "two dimensions need a grid")
    cost_form: ClassVar[str] = "T kernel² D (along a sequence: T kernel D)"
    papers: ClassVar[tuple[int, ...]] = (
        68, 74, 84, 92, 104, 119, 131, 134, 138, 141, 150, 203, 245, 248, 252, 253, 254, 264,
    )  # fmt: skip

    kernel: tuple[int, ...] = (7, 7)
    dilation: tuple[int, ...] = ()
    bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``conv`` (channels, 1, *kernel)."""
        dilation = self.dilation or (1,) * len(self.kernel)
        padding = tuple(d * (k // 2) for k, d in zip(self.kernel, dilation, strict=True))
        kind = Conv1d if len(self.kernel) == 1 else Conv2d
        ones = (1,) * len(self.kernel)
        return (kind("conv", site.stream, dim(1), self.kernel, ones, padding, self.bias, dilation),)

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "conv" if norm == "branch" else ""

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, in_text, on_image, several

        convnext = several(alone(cls(kernel=(3, 5))), branch(Mlp(act="gelu"), hidden=24))
        return (
            on_image(convnext, [branch(cls(kernel=(3, 3), dilation=(2, 2), bias=False))]),
            in_text([branch(cls(kernel=(5,)))]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        if len(self.kernel) == 1:
            return m.conv(x.transpose(1, 2)).transpose(1, 2)
        return to_tokens(m.conv(to_image(x, ctx.flow.grid)))
