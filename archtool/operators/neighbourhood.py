"""Neighbourhood attention: every token attends to the tokens around it, of a grid or a sequence, with dilation.

Source: Hassani et al. 2023 (NAT), Hassani and Shi 2022 (DiNAT): at a border the neighbourhood is moved inside, so that
every token has as many neighbours; with dilation d it holds the tokens at a distance of multiples of d. With
``moved`` off it is cut at the border, which is the sliding window of two directions (Beltagy et al. 2020, Longformer;
Chandrasegaran et al. 2025, Grafting).

Axes: ``kv`` (heads), ``qk``, ``v``.
Legend: `B` batch, `T` tokens, `H` heads, `W` neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import FREE, SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part, Role, Vector, Witness
from archtool.operators.attention import split_heads

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class NeighbourhoodAttention(Operator):
    """Softmax attention to the ``kernel`` tokens around.

    Attributes:
        scale: factor on the scores.
        kernel: one odd number along the sequence, or rows and columns.
        dilation: distance of two neighbours.
        moved: at a border the neighbourhood moves inside; else it is cut.
        table: a learned bias for each head and relative position.
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.neigh"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "qk": SELECT | {"scale"}, "v": FREE}
    linear_in_length: ClassVar[bool] = True
    constraints: ClassVar[tuple[str, ...]] = ("odd kernels", "two dimensions need a grid")
    cost_form: ClassVar[str] = "T kv (D (2 qk + 2 v) + kernel² (qk + v)) (along a sequence: kernel)"
    papers: ClassVar[tuple[int, ...]] = (57, 91, 236, 253)

    scale: float
    kernel: tuple[int, ...] = (7, 7)
    dilation: int = 1
    moved: bool = True
    table: bool = True
    bias: bool = True
    out_bias: bool = True

    @property
    def on_grid(self) -> bool:  # type: ignore[override]
        """Whether neighbours are those of a grid."""
        return len(self.kernel) == 2

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q``, ``k``, ``v``, ``o``; the head count; the ``table`` of relative positions."""
        queries, values = site.dim("kv", "qk"), site.dim("kv", "v")
        offsets = math.prod(2 * n - 1 for n in self.kernel)
        parts: tuple[Part, ...] = (
            Linear("q", queries, site.stream, self.bias),
            Linear("k", queries, site.stream, self.bias),
            Linear("v", values, site.stream, self.bias),
            Linear("o", site.stream, values, self.out_bias),
            Witness("heads", (site.dim("kv"),)),
        )
        table = Vector("table", (dim(offsets), site.dim("kv")), (Role.INDEX, Role.ELEMENTWISE))
        return (*parts, table) if self.table else parts

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values: heads × T × W × (K + V)."""
        return site.size("kv") * flow.tokens * math.prod(self.kernel) * (site.size("qk") + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries and results, and the keys, values and scores of all neighbours."""
        around = math.prod(self.kernel)
        return flow.tokens * site.size("kv") * ((2 + around) * (site.size("qk") + site.size("v")) + around)

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "o" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("q", "k", "v") if norm == "pre" else ()

    def with_bias(self, parts: Sequence[str]) -> NeighbourhoodAttention:
        """See `Operator.with_bias`."""
        return replace(self, bias=self.bias or set(parts) != {"o"}, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        sizes = {"kv": 2, "qk": 4, "v": 6}
        near, far = cls(scale=0.5, kernel=(3, 5)), cls(scale=0.5, kernel=(3, 3), dilation=2, bias=False)
        sliding = cls(scale=0.5, kernel=(5,), moved=False, table=False)
        return (
            on_image([branch(near, **sizes)], [branch(far, **sizes)]),
            in_text([branch(sliding, **sizes)], [branch(cls(scale=0.5, kernel=(3,), dilation=2), **sizes)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch

        q, k, v = (split_heads(y, m.heads.shape[0]) for y in (m.q(x), m.k(x), m.v(x)))
        place_TW, seen_TW, offset_TW = self._neighbours(x, ctx)
        near_k, near_v = (y.index_select(2, place_TW.flatten()).unflatten(2, place_TW.shape) for y in (k, v))
        scores = (near_k @ q[..., None]).squeeze(-1) * self.scale
        if self.table:
            scores = scores + m.table.t()[:, offset_TW][None]
        seen = seen_TW
        padding = ctx.padding(ctx.root)
        if padding is not None:
            seen = seen & padding.bool()[:, place_TW][:, None]
        weights = torch.softmax(scores.masked_fill(~seen, torch.finfo(scores.dtype).min), dim=-1)
        mixed = (weights[..., None, :] @ near_v).squeeze(-2)
        return m.o(mixed.transpose(1, 2).flatten(2))

    def _neighbours(self, x_BTD: Tensor, ctx: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Those of a grid are the same for all layers alike; a sequence may have any length in a traced graph."""
        if len(self.kernel) == 1:
            return self._around((x_BTD.shape[1],), x_BTD.device)
        grid = tuple(ctx.flow.grid)
        key = ("neighbours", *grid, *self.kernel, self.dilation, self.moved)
        found: tuple[Tensor, Tensor, Tensor] = ctx.once(key, lambda: self._around(grid, x_BTD.device))
        return found

    def _around(self, extents: Sequence[int], device: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Of every token (T, W): its neighbours, whether each exists, and the table's row of its relative position."""
        along = [self._along(n, taps, device) for n, taps in zip(extents, self.kernel, strict=True)]
        place, seen, offset = along[0]
        for (other, exists, apart), n, taps in zip(along[1:], extents[1:], self.kernel[1:], strict=True):
            place = (place[:, None, :, None] * n + other[None, :, None, :]).flatten(2).flatten(0, 1)
            seen = (seen[:, None, :, None] & exists[None, :, None, :]).flatten(2).flatten(0, 1)
            offset = (offset[:, None, :, None] * (2 * taps - 1) + apart[None, :, None, :]).flatten(2).flatten(0, 1)
        return place, seen, offset

    def _along(self, extent: int, taps: int, device: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The same along one dimension; tokens whose distance is a multiple of the dilation are one sequence."""
        import torch

        at_N, tap_K = torch.arange(extent, device=device), torch.arange(taps, device=device)
        own_N, first_N = at_N // self.dilation, at_N % self.dilation
        start_N = own_N - taps // 2
        if self.moved:
            last_N = (extent - 1 - first_N) // self.dilation
            start_N = torch.minimum(start_N, last_N - taps + 1).clamp_min(0)
        chosen_NK = start_N[:, None] + tap_K
        place_NK = first_N[:, None] + self.dilation * chosen_NK
        seen_NK = (place_NK >= 0) & (place_NK < extent)
        offset_NK = (chosen_NK - own_N[:, None] + taps - 1).clamp(0, 2 * taps - 2)
        return place_NK.clamp(0, extent - 1), seen_NK, offset_NK
