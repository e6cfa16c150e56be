"""Squeeze and excitation: a gate per channel from the mean over all tokens (Hu et al. 2018, section 3).

``y = x * sigmoid(expand(act(squeeze(mean_T(x)))))``. Axes: ``hidden``, the bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.activation import activation

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite(Operator):
    """Gate the channels by what all tokens have in common.

    Attributes:
        act: activation of the bottleneck.
    """

    kind: ClassVar[str] = "ffn.se"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "2 D hidden"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    papers: ClassVar[tuple[int, ...]] = (31, 240, 247, 255, 264)

    act: str = "relu"

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``squeeze`` (hidden, in) and ``expand`` (in, hidden)."""
        hidden = site.dim("hidden")
        return (Linear("squeeze", hidden, site.stream), Linear("expand", site.stream, hidden))

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per sequence: the mean is one vector."""
        return flow.sequences

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        return (on_image([branch(cls(act="silu"), hidden=6)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return x * gate(m.squeeze, m.expand, x, self.act)


def gate(squeeze: Any, expand: Any, x_BTD: Tensor, act: str) -> Tensor:
    """(B, 1, D) between 0 and 1, from the mean over the tokens."""
    import torch

    mean_B1D = x_BTD.mean(dim=1, keepdim=True)
    return torch.sigmoid(expand(activation(act)(squeeze(mean_B1D))))
