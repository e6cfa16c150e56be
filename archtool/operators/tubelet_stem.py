"""Patch embedding of a video: a convolution over frames, rows and columns (ViViT's tubelets, VideoMAE, Video Swin).

Positions are a layer after it (`pos.abs`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Feed, Flow, Operator, Site
from archtool.ir.parts import Conv3d, Part
from archtool.operators.grid import flow_after, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class TubeletStem(Operator):
    """Cut a video (B, C, F, H, W) into cubes, each a token.

    Attributes:
        kernel / stride / padding: frames, rows and columns; an empty stride is the kernel.
        into / channels: axis names of the stream and of the video's channels.
        bias: whether the projection has a bias.
    """

    kind: ClassVar[str] = "stem.conv3d"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T kernel³ channels D"
    constraints: ClassVar[tuple[str, ...]] = ("a video of at least one cube",)
    papers: ClassVar[tuple[int, ...]] = (26, 41, 108, 115, 119)

    kernel: tuple[int, int, int]
    stride: tuple[int, ...] = ()
    padding: tuple[int, int, int] = (0, 0, 0)
    into: str = "s0.width"
    channels: str = "channels"
    bias: bool = True

    def steps(self) -> tuple[int, ...]:
        """Frames, rows and columns from one cube to the next."""
        return tuple(self.stride) or tuple(self.kernel)

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``cubes`` convolution."""
        channels = dim(self.channels)
        return (Conv3d("cubes", self.out(site), channels, self.kernel, self.steps(), self.padding, self.bias),)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """A video of the size that the architecture states."""
        return {name: Feed((site.sizes[self.channels], "frames", "image_height", "image_width"))}

    def out(self, site: Site) -> Dim:
        """The stream width."""
        return dim(self.into)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The grid of cubes."""
        return flow_after(flow, self.kernel, self.steps(), self.padding)

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per cube."""
        return math.prod(flow_after(flow, self.kernel, self.steps(), self.padding).grid or ())

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "cubes" if norm == "branch" else ""

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, model

        body = [[branch(Mlp(act="relu"), hidden=8)]]
        sizes, facts = {"channels": 3, "s0.width": 16}, {"frames": 4, "image_height": 8, "image_width": 8}
        plain = alone(cls(kernel=(2, 4, 4)))
        overlapped = alone(cls(kernel=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), bias=False))
        return tuple(model(("pixel_values",), stem, body, sizes, facts) for stem in (plain, overlapped))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, C, F, H, W) → (B, T, D)."""
        return to_tokens(m.cubes(x))
