"""Recursive gated convolution: products of ever wider channel groups, each with a convolved context.

Source: Rao et al. 2022 (HorNet), section 3.1. With order n there are n contexts, each twice as wide as the one before;
one depthwise convolution makes them all. The product of order i is widened and multiplied with the next context.

Axes: ``inner`` (I, channels of the narrowest context; context i has I 2^i). Legend: `B` batch, `T` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import concat, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part
from archtool.operators.grid import to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class GatedConv(Operator):
    """``leave(p)`` with ``p₀ = gate(x) c₀`` and ``pᵢ = widenᵢ(pᵢ₋₁) cᵢ``; the c are the convolved contexts.

    Attributes:
        order: how many contexts.
        kernel: side of the convolution (odd).
        scale: factor on the contexts.
        bias: biases of the projections.
    """

    kind: ClassVar[str] = "mix.conv.gated"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("odd kernels",)
    cost_form: ClassVar[str] = (
        "T inner (D (2^n + 2^(n-1)) + (2^n - 1) kernel² + inner Σ 2^(2i-1), i = 1 … n-1), order n"
    )
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"inner": SELECT}
    papers: ClassVar[tuple[int, ...]] = (260,)

    order: int = 5
    kernel: int = 7
    scale: float = 1.0
    bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``gate``, ``enter`` and ``conv`` (all contexts), ``widen1``..., ``leave``."""
        width = [site.dim("inner", 2**i) for i in range(self.order)]
        contexts, square = dim(concat(*width)), (self.kernel,) * 2
        return (
            Linear("gate", width[0], site.stream, self.bias),
            Linear("enter", contexts, site.stream, self.bias),
            Conv2d("conv", contexts, dim(1), square, padding=(self.kernel // 2,) * 2),
            *(Linear(f"widen{i}", width[i], width[i - 1], self.bias) for i in range(1, self.order)),
            Linear("leave", site.stream, width[-1], self.bias),
        )

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The contexts before and after the convolution, and two products."""
        return flow.tokens * site.size("inner") * (2 * (2**self.order - 1) + 2**self.order)

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "leave" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("gate", "enter") if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        first = branch(cls(order=1, kernel=3, scale=0.5, bias=False), inner=6)
        return (on_image([branch(cls(order=3, scale=1 / 3), inner=4)], [first]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        product, entered = m.gate(x), m.enter(x)
        widths = [product.shape[-1] * 2**i for i in range(self.order)]
        contexts = (to_tokens(m.conv(to_image(entered, ctx.flow.grid))) * self.scale).split(widths, dim=-1)
        product = product * contexts[0]
        for i in range(1, self.order):
            product = getattr(m, f"widen{i}")(product) * contexts[i]
        return m.leave(product)
