"""Mixing along a chosen axis: the tokens of a sample are a table, and the mixers after this run along some of its axes.

Source: Zhang and Yan 2023 (Crossformer: time, then variates), Liu et al. 2024 (iTransformer), Ho et al. 2019 (axial
attention). The table is the grid of the tokens: (variates, patches) of a series, (rows, columns) of an image,
(frames, rows, columns) of a video. Tokens that agree on the other axes form a sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class AlongAxes(Operator):
    """Sequences along ``now`` instead of ``before``; the way back is the same with the two exchanged.

    Attributes:
        before: axes of the table along which sequences run when they enter, ascending.
        now: axes along which they run when they leave, ascending.
    """

    kind: ClassVar[str] = "mix.axis"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (one copy of T D numbers)"
    constraints: ClassVar[tuple[str, ...]] = ("tokens on a grid that has these axes",)
    papers: ClassVar[tuple[int, ...]] = (21, 23, 124, 158, 228)

    before: tuple[int, ...]
    now: tuple[int, ...]

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """The same table in other sequences."""
        grid = flow.grid or (1,) * (1 + max(self.before + self.now))
        return Flow(flow.tokens, flow.grid, math.prod(n for i, n in enumerate(grid) if i not in self.now))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.attention import Attention
        from archtool.operators.samples import alone, branch, on_image
        from archtool.operators.series_samples import on_series

        def inside(before: tuple[int, ...], now: tuple[int, ...]) -> list[list[Any]]:
            attention = branch(Attention(scale=0.5), kv=2, group=1, qk=4, v=4)
            return [[alone(cls(before=before, now=now))], [attention], [alone(cls(before=now, now=before))]]

        return on_series(*inside((1,), (0,))), on_image(*inside((0, 1), (1,)), image=12, patch=3)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B × sequences, T, D) → (B × other sequences, other T, D)."""
        grid = ctx.flow.grid
        outer = [i for i in range(len(grid)) if i not in self.before]
        stands = [*outer, *self.before]
        whole = x.reshape(-1, *(grid[i] for i in stands), x.shape[-1])
        wanted = [*(i for i in range(len(grid)) if i not in self.now), *self.now]
        turned = whole.permute(0, *(1 + stands.index(i) for i in wanted), len(grid) + 1)
        return turned.reshape(-1, math.prod(grid[i] for i in self.now), x.shape[-1])
