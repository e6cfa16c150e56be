"""Perceptron with a depthwise convolution in its hidden layer: ``fc2(act(conv(fc1(x))))`` on the grid.

Source: Xie et al. 2021 (SegFormer's Mix-FFN), Wang et al. 2022 (PVT v2). The convolution's zero padding tells
positions. Axes: ``hidden``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part
from archtool.operators.activation import activation
from archtool.operators.grid import to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ConvMlp(Operator):
    """``fc2(act(conv(inner_act(fc1(x)))))``.

    Attributes:
        kernel: rows and columns (odd).
        act / inner_act: activation after / before the convolution.
        bias: whether the three have biases.
    """

    kind: ClassVar[str] = "ffn.conv"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T hidden (2 D + kernel²)"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    papers: ClassVar[tuple[int, ...]] = (34, 62, 68, 85, 124, 160, 180, 216, 247, 259)

    kernel: tuple[int, int] = (3, 3)
    act: str = "gelu"
    inner_act: str = "identity"
    bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``fc1`` (hidden, in), depthwise ``conv`` on hidden, ``fc2`` (in, hidden)."""
        hidden, (rows, columns) = site.dim("hidden"), self.kernel
        centred = (rows // 2, columns // 2)
        return (
            Linear("fc1", hidden, site.stream, self.bias),
            Conv2d("conv", hidden, dim(1), self.kernel, padding=centred, bias=self.bias),
            Linear("fc2", site.stream, hidden, self.bias),
        )

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The hidden layer before and after the convolution."""
        return 2 * flow.tokens * site.size("hidden")

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "fc2" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("fc1",) if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        wide = cls(kernel=(5, 3), act="relu", inner_act="silu", bias=False)
        return (on_image([branch(cls(), hidden=24)], [branch(wide, hidden=10)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        hidden_BTF = activation(self.inner_act)(m.fc1(x))
        mixed_BTF = to_tokens(m.conv(to_image(hidden_BTF, ctx.flow.grid)))
        return m.fc2(activation(self.act)(mixed_BTF))
