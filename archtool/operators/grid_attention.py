"""Dilated window attention: a group holds cells that stand evenly spaced over the whole grid.

Source: Tu et al. 2022 (MaxViT, grid attention), Wang et al. 2022 (CrossFormer, long-distance attention). Each of
``window`` by ``window`` equal areas of the grid gives one cell to every group, so that a group spans the grid at the
cost of a window. The table of biases is that of windows; one step in it is one area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.operators.window_attention import WindowAttention

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class GridAttention(WindowAttention):
    """Attention between ``window`` by ``window`` cells that are spread over the grid (never shifted)."""

    kind: ClassVar[str] = "mix.attn.dilated"
    papers: ClassVar[tuple[int, ...]] = (40, 72, 87, 91, 125, 253)

    def __post_init__(self) -> None:
        if self.shift:
            raise ValueError("groups that span the grid are not shifted")

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        plain, odd = cls(window=4, scale=0.5), cls(window=3, scale=0.5, bias=False, out_bias=False)
        return (on_image([branch(plain, kv=4, qk=4, v=4)], [branch(odd, kv=2, qk=3, v=6)]),)

    def _cut(self, x_BRSC: Tensor, window: int) -> Tensor:
        cells = x_BRSC.unflatten(2, (window, -1)).unflatten(1, (window, -1))
        return cells.permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(0, 2)

    def _joined(self, x_NAC: Tensor, sides: tuple[int, int], window: int) -> Tensor:
        groups: Any = x_NAC.unflatten(1, (window, window)).unflatten(0, (-1, sides[0] // window, sides[1] // window))
        return groups.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
