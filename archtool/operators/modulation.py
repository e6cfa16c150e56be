"""Scale-aware modulation: values times a context that convolutions of several kernel sizes gather.

Source: Lin et al. 2023 (SMT), section 3.2. The channels are dealt to heads, each with a depthwise convolution of its
own kernel (3, 5, 7, ...); then the channels of one index from all heads are mixed in a group of their own, widened,
normed and projected onto the values.

Axes: ``inner`` (channels of a head), ``v`` (values). Legend: `B` batch, `T` tokens, `I` channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Linear, Part
from archtool.operators.activation import activation
from archtool.operators.grid import to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

BATCH = NormSpec("batch")


@dataclass(frozen=True, kw_only=True)
class Modulation(Operator):
    """``leave(value(x) * project(act(norm(mix(convs(enter(x)))))))``.

    Attributes:
        kernels: side of each head's kernel (odd).
        expand: channels that a group leaves, per channel that enters it.
        act: activation after the norm.
        norm: norm of the widened context, or None.
        bias: biases of the projections onto values and heads.
    """

    kind: ClassVar[str] = "mix.conv.modulate"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("odd kernels",)
    cost_form: ClassVar[str] = (
        "T (D (h inner + 2 v) + inner Σ kernel² + h² expand inner + h expand inner v), h heads (kernels)"
    )
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"inner": SELECT, "v": SELECT}
    papers: ClassVar[tuple[int, ...]] = (50, 261)

    kernels: tuple[int, ...] = (3, 5, 7, 9)
    expand: int = 2
    act: str = "gelu"
    norm: NormSpec | None = BATCH
    bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``enter``, ``value``; ``conv0``... of the heads; ``mix`` (a group per channel), ``project``, ``leave``."""
        heads, inner = len(self.kernels), site.dim("inner")
        wide = site.dim("inner", heads * self.expand)
        convs = (
            Conv2d(f"conv{i}", inner, dim(1), (k, k), padding=(k // 2, k // 2)) for i, k in enumerate(self.kernels)
        )
        parts: tuple[Part, ...] = (
            Linear("enter", dim(heads, *inner.factors), site.stream, self.bias),
            Linear("value", site.dim("v"), site.stream, self.bias),
            *convs,
            Conv2d("mix", wide, dim(heads), (1, 1)),
            Linear("project", site.dim("v"), wide),
            Linear("leave", site.stream, site.dim("v")),
        )
        return (*parts, self.norm.part("norm", wide)) if self.norm else parts

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The heads before and after their convolutions, the widened context, the values."""
        heads = len(self.kernels) * site.size("inner")
        return flow.tokens * (heads * (2 + 2 * self.expand) + 2 * site.size("v"))

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return {"branch": "leave", "norm": "mix"}.get(norm, "")

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("enter", "value") if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        plain = cls(kernels=(3, 5), expand=1, act="relu", norm=None, bias=False)
        return (on_image([branch(cls(), inner=4, v=16)], [branch(plain, inner=6, v=10)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch

        grid, heads = ctx.flow.grid, m.enter(x).chunk(len(self.kernels), dim=-1)
        seen = [to_tokens(getattr(m, f"conv{i}")(to_image(y, grid))) for i, y in enumerate(heads)]
        dealt_BTE = torch.stack(seen, dim=-1).flatten(2)
        wide_BTE = to_tokens(m.mix(to_image(dealt_BTE, grid)))
        context = m.project(activation(self.act)(m.norm(wide_BTE) if self.norm else wide_BTE))
        return m.leave(context * m.value(x))
