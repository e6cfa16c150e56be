"""Self-attention on a fixed grid with a learned bias per head for every distance in rows and columns.

Source: Graham et al. 2021 (LeViT), section 4.3; EfficientFormer (Li et al. 2022) has the same. The distance has no
sign, so that a table of ``rows × columns`` entries serves all pairs of cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Site
from archtool.ir.parts import Constant, Part, Role, Vector
from archtool.operators.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True)
class Distances:
    """For each pair of cells, the entry of the table: rows apart × columns + columns apart."""

    grid: tuple[int, int]

    def values(self) -> Any:
        """(T, T) indices."""
        import torch

        rows, columns = self.grid
        row_T, column_T = (torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns)
        apart = [(a[:, None] - a[None, :]).abs() for a in (row_T, column_T)]
        return apart[0] * columns + apart[1]


@dataclass(frozen=True, kw_only=True)
class OffsetAttention(Attention):
    """Softmax self-attention with a bias per head and distance.

    Attributes:
        grid: rows and columns of the tokens.
    """

    kind: ClassVar[str] = "mix.attn.offset"
    constraints: ClassVar[tuple[str, ...]] = ("the grid that it was made for",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "group": SELECT, "qk": SELECT, "v": SELECT}
    papers: ClassVar[tuple[int, ...]] = (85, 239)

    grid: tuple[int, int]

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Those of attention, ``bias_table`` (distances, heads) and its ``distance`` (T, T)."""
        cells = self.grid[0] * self.grid[1]
        heads = site.dim("kv", "group")
        return (
            *Attention.parts(self, site),
            Vector("bias_table", (dim(cells), heads), (Role.INDEX, Role.ELEMENTWISE)),
            Constant("distance", (dim(cells), dim(cells)), Distances(self.grid)),
        )

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        op = cls(scale=0.5, grid=(4, 4))
        return (on_image([branch(op, kv=2, group=2, qk=3, v=5)], patch=4),)

    def _mix(self, m: Any, q: Tensor, k: Tensor, v: Tensor, ctx: Any) -> Tensor:
        """Scores plus the bias of each pair's distance."""
        import torch.nn.functional as F

        bias_HTT = m.bias_table[m.distance].permute(2, 0, 1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias_HTT[None], scale=self.scale)
