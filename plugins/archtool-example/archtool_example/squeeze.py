"""Squeeze and excitation: a gate per channel from the mean over all tokens (Hu et al. 2018, section 3).

``y = x * sigmoid(expand(relu(squeeze(mean_T(x)))))``. Axes: ``hidden`` (R), the bottleneck. As the kind of unit
is called ``hidden`` like that of every other channel mixer, ``archtool prune --units ffn`` narrows it too.
B batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite(Operator):
    """Gate the channels by what all tokens have in common."""

    kind: ClassVar[str] = "example.se"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    papers: ClassVar[tuple[int, ...]] = (31, 240, 247, 255, 264)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``squeeze`` (hidden, in) and ``expand`` (in, hidden)."""
        hidden = site.dim("hidden")
        return (Linear("squeeze", hidden, site.stream), Linear("expand", site.stream, hidden))

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per sample: the mean is one vector."""
        return 1

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch

        mean_B1D = x.mean(dim=1, keepdim=True)
        return x * torch.sigmoid(m.expand(torch.relu(m.squeeze(mean_B1D))))
