"""Residual reduction between stages: a strided convolution beside a pooled and projected skip, summed and normed.

Source: Liao et al. 2021 (ViT-ResNAS, "Searching for Efficient Multi-Stage Vision Transformers"), section 3.2. The
convolution reads the normed stream, the skip the stream itself, so that the residual path goes through all stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part
from archtool.operators.grid import flow_after, to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ResidualReduction(Operator):
    """``conv(norm(x)) + project(mean of each square of x)``.

    Attributes:
        into: axis name of the channels that leave.
        kernel: rows and columns of the convolution (odd).
        ratio: stride of the convolution and side of the squares; it divides the grid.
        norm: norm before the convolution, or None. One after the sum is the layer's ``branch``.
        bias: whether the convolution and the projection have biases.
    """

    kind: ClassVar[str] = "down.residual"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("ratio divides the grid", "odd kernels")
    cost_form: ClassVar[str] = "T' D D' (kernel² + 1), T' = T / ratio²"
    papers: ClassVar[tuple[int, ...]] = (106,)

    into: str
    kernel: int = 3
    ratio: int = 2
    norm: NormSpec | None = None
    bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``conv`` (into, in, rows, columns), ``project`` (into, in) and ``norm``."""
        square, stride, padding = (self.kernel,) * 2, (self.ratio,) * 2, (self.kernel // 2,) * 2
        parts: tuple[Part, ...] = (
            Conv2d("conv", self.out(site), site.stream, square, stride, padding, self.bias),
            Linear("project", self.out(site), site.stream, self.bias),
        )
        return (*parts, self.norm.part("norm", site.stream)) if self.norm else parts

    def out(self, site: Site) -> Dim:
        """The next stage's width."""
        return dim(self.into)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """A token for each square."""
        return flow_after(flow, (self.ratio,) * 2, (self.ratio,) * 2, (0, 0))

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per token that leaves."""
        return flow.tokens // self.ratio**2

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The normed stream, and what both branches give."""
        leaves = 2 * flow.tokens // self.ratio**2 * self.out(site).size(site.sizes)
        return leaves + flow.tokens * site.stream.size(site.sizes)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.ir.architecture import Layer
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import NORM, branch, on_image

        into, ffn = "s1.width", branch(Mlp(act="relu"), hidden=8)
        normed = Layer("op", cls(into=into, norm=NORM), branch=NORM, residual=False)
        bare = Layer("op", cls(into=into, kernel=5, ratio=4, bias=False), residual=False)
        return tuple(
            on_image([ffn], [(down, {})], [ffn], sizes={into: 12}, stages=("s0", "", "s1")) for down in (normed, bare)
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T', into)."""
        import torch.nn.functional as F

        grid = ctx.flow.grid
        skip_BTD = to_tokens(F.avg_pool2d(to_image(x, grid), self.ratio))
        normed = m.norm(x) if self.norm else x
        return to_tokens(m.conv(to_image(normed, grid))) + m.project(skip_BTD)
