"""Nearest-neighbour resizing: every token becomes a square of copies (Inception Transformer's low-frequency branch).

Source: Si et al. 2022, section 3.1: pooled tokens attend to each other and are brought back to the full grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class UpRepeat(Operator):
    """``ratio²`` copies of every token, laid out as a square.

    Attributes:
        ratio: rows and columns of the square.
    """

    kind: ClassVar[str] = "up.repeat"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (ratio² T D copies)"
    papers: ClassVar[tuple[int, ...]] = ()

    ratio: int = 2

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """A finer grid."""
        rows, columns = flow.grid or (0, 0)
        return Flow(flow.tokens * self.ratio**2, (rows * self.ratio, columns * self.ratio), flow.sequences)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.conv import GridConv
        from archtool.operators.grid_pool import GridPool
        from archtool.operators.neighbourhood import NeighbourhoodAttention
        from archtool.operators.samples import alone, branch, followed, on_image

        pool = alone(GridPool(kernel=(2, 2), stride=(2, 2), padding=(0, 0)))
        arch = on_image(
            [pool], [branch(NeighbourhoodAttention(scale=0.5, kernel=(3, 3)), kv=2, qk=4, v=4)], [alone(cls())]
        )
        sharp = GridConv(kernel=(1, 1), padding=(0, 0), into="s0.width")
        return (followed(arch, sharp, ("b2", "embed"), name="fuse"),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T ratio², D)."""
        rows, columns = ctx.flow.grid
        cells = x.unflatten(1, (rows, 1, columns, 1)).expand(-1, -1, self.ratio, -1, self.ratio, -1)
        return cells.flatten(1, 4)
