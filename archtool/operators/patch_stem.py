"""Patch embedding of an image: non-overlapping patches, class and distillation tokens, learned positions.

Source: Dosovitskiy et al. 2021 (ViT), Touvron et al. 2021 (DeiT's distillation token), Touvron et al. 2022
(DeiT III: no positions on the extra tokens). Axes: ``positions`` counts grid cells, plus extra tokens
where these have positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Feed, Flow, Operator, Site
from archtool.ir.parts import Conv2d, Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class PatchStem(Operator):
    """Patchify with a strided convolution.

    Attributes:
        patch: patch height and width in pixels.
        tokens: names of the extra tokens in front (``"cls"``, ``"dist"``).
        width / channels: axis names of the stream and of the image channels.
        bias: whether the projection has a bias.
        positions: whether there is a position table (its axis is the local ``positions``).
        token_positions: whether the extra tokens have rows in that table, in front.
        padded: fill the image up with zeros to whole patches, at the bottom and on the right; else what is over is
            left out.
    """

    kind: ClassVar[str] = "stem.patch"
    cost_form: ClassVar[str] = "H W channels D"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"positions": frozenset()}
    papers: ClassVar[tuple[int, ...]] = (
        2, 7, 13, 16, 20, 32, 56, 58, 74, 86, 98, 104, 116, 125, 130, 133, 140, 144, 196, 228, 230,
    )  # fmt: skip

    patch: tuple[int, int]
    tokens: tuple[str, ...] = ("cls",)
    width: str = "s0.width"
    channels: str = "channels"
    bias: bool = True
    positions: bool = True
    token_positions: bool = True
    padded: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``patches`` convolution, one vector per extra token, ``position`` table (tokens, width)."""
        width = dim(self.width)
        parts: list[Part] = [Conv2d("patches", width, dim(self.channels), self.patch, self.patch, bias=self.bias)]
        parts += [Vector(name, (width,), (Role.PRODUCES,)) for name in self.tokens]
        if self.positions:
            parts.append(Vector("position", (site.dim("positions"), width), (Role.INDEX, Role.PRODUCES)))
        return tuple(parts)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """An image of the size that the architecture states."""
        return {name: Feed((site.sizes[self.channels], "image_height", "image_width"))}

    def out(self, site: Site) -> Dim:
        """The stream width."""
        return dim(self.width)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """Grid cells plus extra tokens."""
        grid = self.cells(flow)
        return Flow(grid[0] * grid[1] + len(self.tokens), grid)

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per grid cell."""
        return math.prod(self.cells(flow))

    def cells(self, flow: Flow) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = flow.grid or (0, 0)
        over = (self.patch[0] - 1, self.patch[1] - 1) if self.padded else (0, 0)
        return (rows + over[0]) // self.patch[0], (columns + over[1]) // self.patch[1]

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, model

        stem = alone(cls(patch=(4, 2), tokens=("cls", "dist")), positions=18)
        sizes, facts = {"channels": 3, "s0.width": 16}, {"image_height": 16, "image_width": 8}
        odd = alone(cls(patch=(3, 5), tokens=(), positions=False, padded=True))
        ffn = [[branch(Mlp(act="relu"), hidden=8)]]
        return tuple(model(("pixel_values",), each, ffn, sizes, facts) for each in (stem, odd))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, C, H, W) → (B, T, D)."""
        import torch

        whole = self._whole(x, ctx.flow) if self.padded else x
        patches = m.patches(whole).flatten(2).transpose(1, 2)
        extra = [getattr(m, name).expand(patches.shape[0], 1, -1) for name in self.tokens]
        if self.positions and not self.token_positions:
            patches = patches + m.position
        x_BTD = torch.cat((*extra, patches), dim=1) if extra else patches
        return x_BTD + m.position if self.positions and self.token_positions else x_BTD

    def _whole(self, x_BCHW: Tensor, flow: Flow) -> Tensor:
        import torch.nn.functional as F

        missing = [n * p - have for n, p, have in zip(self.cells(flow), self.patch, x_BCHW.shape[2:], strict=True)]
        return F.pad(x_BCHW, (0, missing[1], 0, missing[0])) if any(missing) else x_BCHW
