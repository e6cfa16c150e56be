"""Pooling on the grid of tokens: PoolFormer's mixer (the mean of the neighbours minus the token), max pooling.

Source: Yu et al. 2022 (MetaFormer), section 3.2. Cells outside the grid take no part in a mean or a maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part
from archtool.operators.grid import flow_after, to_image, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class GridPool(Operator):
    """The mean or the maximum of each token's neighbours; strided, it reduces the grid.

    Attributes:
        mode: ``"mean"`` or ``"max"``.
        kernel / stride / padding: rows and columns.
        minus_input: subtract the token itself (where the stride is 1).
    """

    kind: ClassVar[str] = "mix.pool"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (T' kernel² D additions or comparisons)"
    papers: ClassVar[tuple[int, ...]] = (85, 141, 265)

    mode: str = "mean"
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    minus_input: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The grid that is left."""
        return flow_after(flow, self.kernel, self.stride, self.padding)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.dense import Dense
        from archtool.operators.samples import alone, branch, on_image

        reduced = [alone(cls(mode="max", stride=(2, 2)))], [alone(Dense(act="relu"), units=12)]
        return on_image([branch(cls(minus_input=True))]), on_image(*reduced)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T', D)."""
        import torch.nn.functional as F

        image = to_image(x, ctx.flow.grid)
        if self.mode == "max":
            pooled = F.max_pool2d(image, self.kernel, self.stride, self.padding)
        else:
            pooled = F.avg_pool2d(image, self.kernel, self.stride, self.padding, count_include_pad=False)
        return to_tokens(pooled) - x if self.minus_input else to_tokens(pooled)
