"""MobileViT's unfolding and back: the cells at the same place of every patch as a sequence (Mehta and Rastegari 2022).

A grid that patches do not fill is stretched to one that they do, or cropped to whole patches; folding goes back to
the grid of the stream that the layer reads beside its own (cropped cells are zero there).

Legend: `B` batch, `T` tokens, `C` channels, `H` rows, `W` columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part
from archtool.operators.grid import resized, to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class PatchUnfold(Operator):
    """Bring the cells at the same place of all patches together.

    Attributes:
        patch: rows and columns of a patch.
        uneven: what becomes of a grid that patches do not fill: ``"stretch"`` (bilinear) or ``"crop"``.
        cut: every place is a sequence of its own; else the places stand one after another in one sequence.
    """

    kind: ClassVar[str] = "topo.unfold"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (4 T D where the grid is stretched)"
    constraints: ClassVar[tuple[str, ...]] = ("uneven='crop': the grid holds at least one patch",)

    patch: tuple[int, int]
    uneven: str = "stretch"
    cut: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """Whole patches, and a sequence for each of their places."""
        rows, columns = covered(flow.grid or (0, 0), self.patch, self.uneven)
        return Flow(rows * columns, (rows, columns), self.patch[0] * self.patch[1] if self.cut else 1)

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Four products for each number of a stretched grid."""
        after = self.out_flow(site, flow)
        stretched = self.uneven == "stretch" and after.grid != flow.grid
        return 4 * after.tokens * site.stream.size(site.sizes) if stretched else 0

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """All of them."""
        return self.mixing_macs(site, flow)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        return tuple(sample(*setting) for setting in SETTINGS[:2])

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, C) → (B × places, patches, C), or (B, places × patches, C)."""
        grid, (p, q) = tuple(ctx.flow.grid), self.patch
        rows, columns = covered(grid, self.patch, self.uneven)
        if (rows, columns) != grid:
            x = fitted(x, grid, (rows, columns), self.uneven)
        cells = x.unflatten(1, (rows // p, p, columns // q, q)).permute(0, 2, 4, 1, 3, 5)
        return cells.flatten(3, 4).flatten(0, 2) if self.cut else cells.flatten(1, 4)


@dataclass(frozen=True, kw_only=True)
class PatchFold(Operator):
    """The inverse of `PatchUnfold`, on the grid of the stream beside; settings as there."""

    kind: ClassVar[str] = "topo.fold"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (4 T D where the grid is stretched)"
    constraints: ClassVar[tuple[str, ...]] = ("reads beside its own stream the one whose grid it restores",)

    patch: tuple[int, int]
    uneven: str = "stretch"
    cut: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The grid of the stream beside, in one sequence."""
        rows, columns = self.grid(flow)
        return Flow(rows * columns, (rows, columns))

    def grid(self, flow: Flow) -> tuple[int, int]:
        """Rows and columns of the stream beside."""
        rows, columns = (flow.beside[0].grid if flow.beside else flow.grid) or (0, 0)
        return rows, columns

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Four products for each number of a stretched grid."""
        after = self.out_flow(site, flow)
        stretched = self.uneven == "stretch" and after.grid != flow.grid
        return 4 * after.tokens * site.stream.size(site.sizes) if stretched else 0

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """All of them."""
        return self.mixing_macs(site, flow)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        return tuple(sample(*setting) for setting in SETTINGS[2:])

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """Both streams; (B × places, patches, C), or (B, places × patches, C) → (B, T, C)."""
        grid, (p, q), (rows, columns) = self.grid(ctx.flow), self.patch, ctx.flow.grid
        x_BTC = x[0]
        cells = x_BTC.reshape(-1, p, q, rows // p, columns // q, x_BTC.shape[-1]).permute(0, 3, 1, 4, 2, 5)
        whole = cells.flatten(1, 4)
        return whole if (rows, columns) == grid else fitted(whole, (rows, columns), grid, self.uneven)


def covered(grid: Sequence[int], patch: Sequence[int], uneven: str) -> tuple[int, int]:
    """The grid of whole patches that a grid becomes."""
    more = [p - 1 if uneven == "stretch" else 0 for p in patch]
    rows, columns = ((n + m) // p * p for n, p, m in zip(grid, patch, more, strict=True))
    return rows, columns


def fitted(x_BTC: Tensor, grid: Sequence[int], target: Sequence[int], uneven: str) -> Tensor:
    """Tokens on another grid: stretched, or cropped and filled with zeros."""
    import torch.nn.functional as F

    if uneven == "stretch":
        return resized(x_BTC, grid, target)
    around = (0, target[1] - grid[1], 0, target[0] - grid[0])
    return to_tokens(F.pad(to_image(x_BTC, grid), around))


SETTINGS = ((16, "stretch", True), (22, "stretch", True), (22, "crop", False))
"""Image size, ``uneven`` and ``cut`` of the samples: whole patches, and grids of eleven cells in patches of 4 × 2."""


def sample(image: int, uneven: str, cut: bool) -> Architecture:
    """A model that attends within unfolded patches and fuses what comes back with what entered."""
    from archtool.ir.architecture import Layer
    from archtool.operators.conv import GridConv
    from archtool.operators.samples import alone, followed, on_image
    from archtool.operators.separable import Separable

    patch = (4, 2)
    inside = Layer("attn", Separable(runs=1 if cut else 8, bias=False)), {"v": 8}
    back = Layer("back", PatchFold(patch=patch, uneven=uneven, cut=cut), residual=False, reads=("embed",))
    block = [alone(PatchUnfold(patch=patch, uneven=uneven, cut=cut)), inside, (back, {})]
    fused = GridConv(kernel=(1, 1), padding=(0, 0), into="s0.width")
    return followed(on_image(block, image=image), fused, ("embed", "b0"))
