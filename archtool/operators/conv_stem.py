"""Convolution on the pixels of an image: the first layer of a conv stem (further ones are `mix.conv`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Feed, Site
from archtool.operators.activation import activation
from archtool.operators.conv import GridConv
from archtool.operators.grid import to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ConvStem(GridConv):
    """``act(conv(pixels) + b)`` as tokens.

    Attributes:
        into: axis name of the stream.
        channels: axis name of the image's channels.
    """

    kind: ClassVar[str] = "stem.conv"
    papers: ClassVar[tuple[int, ...]] = (5, 31, 55, 62, 69, 80, 85, 106, 212, 216, 239, 240, 241, 242, 247, 252)

    into: str = "s0.width"
    channels: str = "channels"

    def entering(self, site: Site) -> Dim:
        """The image's channels."""
        return dim(self.channels)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """An image of the size that the architecture states."""
        return {name: Feed((site.sizes[self.channels], "image_height", "image_width"))}

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, model

        stem = alone(cls(stride=(2, 2), act="silu", bias=False))
        sizes, facts = {"channels": 3, "s0.width": 16}, {"image_height": 16, "image_width": 16}
        return (model(("pixel_values",), stem, [[branch(Mlp(act="relu"), hidden=8)]], sizes, facts),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, C, H, W) → (B, T, D), channels innermost in memory: the small image is turned, not what it becomes."""
        import torch

        pixels = x.contiguous(memory_format=torch.channels_last)
        return activation(self.act)(to_tokens(m.conv(pixels)))
