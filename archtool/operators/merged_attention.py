"""Attention between merged tokens: queries, or keys and values, are merged first; the result is spread back.

Source: Kienzle et al. 2024 (SegFormer++), Bolya et al. 2023 (token merging), Bolya and Hoffman 2023 (merging on a
grid). Matched merging: of every patch of the grid the first token stays; each of the others is compared with all that
stay (cosine), the share of the most similar ones is averaged into its best match, the rest goes on alone. Afterwards
each token has the result of what it was merged into. Pooled merging averages the patches. Nothing is random.

Axes: those of `mix.attn.sr`. Legend: `B` batch, `T` tokens, `S` tokens that stay (of the grid), `R` others, `D` width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Site
from archtool.ir.parts import Part
from archtool.operators.attention import split_heads
from archtool.operators.grid import cells_after
from archtool.operators.reduced_attention import ReducedAttention

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True)
class Merge:
    """How tokens of a grid are merged.

    Attributes:
        patch: rows and columns of the patches of which one token stays, or which are averaged.
        share: share of all tokens that is merged by matching; 0: patches are averaged.
    """

    patch: tuple[int, int] = (2, 2)
    share: float = 0.0

    def staying(self, grid: Sequence[int]) -> int:
        """Patches of a grid."""
        rows, columns = self.patch
        return -(-grid[0] // rows) * -(-grid[1] // columns)

    def merged(self, grid: Sequence[int]) -> int:
        """Tokens that are matched and merged."""
        return min(int(self.share * math.prod(grid)), math.prod(grid) - self.staying(grid))

    def left(self, grid: Sequence[int]) -> int:
        """Tokens after merging."""
        return math.prod(grid) - self.merged(grid) if self.share else self.staying(grid)

    def pairs(self, grid: Sequence[int]) -> int:
        """Pairs of tokens that are compared."""
        return (math.prod(grid) - self.staying(grid)) * self.staying(grid) if self.share else 0


@dataclass(frozen=True, kw_only=True)
class MergedAttention(ReducedAttention):
    """Softmax attention with merged queries, and merged keys and values.

    Attributes:
        queries / keys: how they are merged; None: not. Keys are merged after their grid is reduced.
    """

    kind: ClassVar[str] = "mix.attn.merged"
    cost_form: ClassVar[str] = (
        "T' D kv (qk + v) + S inner ratio² D + S' inner kv (qk + v) + kv T' S' (qk + v) + matching: pairs D; T', S': "
        "tokens after merging"
    )
    constraints: ClassVar[tuple[str, ...]] = ("a grid of at least ratio × ratio",)
    papers: ClassVar[tuple[int, ...]] = ()

    queries: Merge | None = None
    keys: Merge | None = None

    def reduced(self, flow: Flow) -> tuple[int, ...]:
        """The grid of the keys before they are merged."""
        grid = (self.pool, self.pool) if self.pool else flow.grid or (0, 0)
        return cells_after(grid, (self.ratio,) * 2, (self.ratio,) * 2, (0, 0))

    def left(self, flow: Flow) -> tuple[int, int]:
        """Queries and keys after merging."""
        grid, reduced = flow.grid or (0, 0), self.reduced(flow)
        return (
            self.queries.left(grid) if self.queries else flow.tokens,
            self.keys.left(reduced) if self.keys else math.prod(reduced),
        )

    def calls(self, part: Part, flow: Flow) -> int:
        """Queries, outputs, keys and values once per merged token, the convolution once per cell."""
        queries, keys = self.left(flow)
        return {"q": queries, "o": queries, "k": keys, "v": keys}.get(part.name, math.prod(self.reduced(flow)))

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Scores and weighted values of merged tokens, and the comparison of tokens."""
        queries, keys = self.left(flow)
        mixed = site.size("kv") * queries * keys * (site.size("qk") + site.size("v"))
        compared = self.queries.pairs(flow.grid or (0, 0)) * site.stream.size(site.sizes) if self.queries else 0
        return mixed + compared + (self.keys.pairs(self.reduced(flow)) * site.size("inner") if self.keys else 0)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.ir.architecture import NormSpec
        from archtool.operators.samples import branch, on_image

        sizes = {"kv": 2, "qk": 4, "v": 6, "inner": 12}
        matched, pooled = Merge((2, 2), 0.5), Merge((3, 2))
        first = cls(scale=0.5, ratio=2, norm=NormSpec(), keys=Merge((2, 2), 0.4), queries=pooled)
        return (
            on_image([branch(first, **sizes)], [branch(cls(scale=0.5, queries=matched, keys=pooled), **sizes)]),
            on_image([branch(cls(scale=0.5, queries=Merge((4, 4), 0.8), bias=False, out_bias=False), **sizes)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        import torch.nn.functional as F

        grid, heads = ctx.flow.grid, m.heads.shape[0]
        asked, spread = merging(x, self.queries, grid) if self.queries else (x, None)
        reduced_BSI = self._reduced(m, x, grid)
        if self.keys:
            side = self.pool or 0
            cells = (side, side) if side else grid
            reduced_BSI = merging(reduced_BSI, self.keys, [n // self.ratio for n in cells])[0]
        q, k, v = (split_heads(y, heads) for y in (m.q(asked), m.k(reduced_BSI), m.v(reduced_BSI)))
        mixed = m.o(F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2))
        return spread(mixed) if spread else mixed


def merging(x_BTD: Tensor, how: Any, grid: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The merged tokens, and what brings as many results back to all tokens."""
    return matched(x_BTD, how, grid) if how.share else pooled(x_BTD, how.patch, grid)


def pooled(x_BTD: Tensor, patch: Sequence[int], grid: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The mean of each patch (of what the grid has of it), and the copying of a patch's result to its tokens."""
    import torch

    place_T = patches(patch, grid, x_BTD.device)
    count = -(-grid[0] // patch[0]) * -(-grid[1] // patch[1])
    return averaged(x_BTD, place_T.expand(x_BTD.shape[0], -1), count), lambda y: torch.index_select(y, 1, place_T)


def matched(x_BTD: Tensor, how: Any, grid: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Tokens merged into their best match among those that stay, the rest alone; and the way back."""
    import torch
    import torch.nn.functional as F

    place_T = patches(how.patch, grid, x_BTD.device)
    first_T = firsts(how.patch, grid, x_BTD.device)
    stays_S, others_R = first_T.nonzero().squeeze(1), (~first_T).nonzero().squeeze(1)
    direction = F.normalize(x_BTD, dim=-1)
    likeness_BR, match_BR = (direction[:, others_R] @ direction[:, stays_S].transpose(1, 2)).max(-1)
    staying, merged = len(stays_S), min(int(how.share * len(place_T)), len(others_R))
    merged_BR = torch.zeros_like(match_BR).scatter(1, likeness_BR.topk(merged, dim=-1).indices, 1)
    own_BR = torch.where(merged_BR > 0, match_BR, staying - 1 + (1 - merged_BR).cumsum(-1))
    stay_BS = torch.arange(staying, device=x_BTD.device).expand(x_BTD.shape[0], -1)
    to_BT = torch.cat((stay_BS, own_BR), 1)[:, torch.cat((stays_S, others_R)).argsort()]
    back = lambda y: torch.gather(y, 1, to_BT[..., None].expand(-1, -1, y.shape[-1]))  # noqa: E731
    return averaged(x_BTD, to_BT, staying + len(others_R) - merged), back


def averaged(x_BTD: Tensor, to_BT: Tensor, count: int) -> Tensor:
    """The mean (B, count, D) of the tokens that go to each place."""
    shape = (x_BTD.shape[0], count, x_BTD.shape[-1])
    sums = x_BTD.new_zeros(shape).scatter_add(1, to_BT[..., None].expand(x_BTD.shape), x_BTD)
    ones = x_BTD.new_ones(1).expand(to_BT.shape)
    return sums / x_BTD.new_zeros(shape[:2]).scatter_add(1, to_BT, ones)[..., None]


def patches(patch: Sequence[int], grid: Sequence[int], device: Any) -> Tensor:
    """The patch (T,) of every token, row by row."""
    import torch

    rows_R, columns_C = (torch.arange(n, device=device) // p for n, p in zip(grid, patch, strict=True))
    return (rows_R[:, None] * -(-grid[1] // patch[1]) + columns_C).flatten()


def firsts(patch: Sequence[int], grid: Sequence[int], device: Any) -> Tensor:
    """Whether a token (T,) is the first of its patch."""
    import torch

    rows_R, columns_C = (torch.arange(n, device=device) % p == 0 for n, p in zip(grid, patch, strict=True))
    return (rows_R[:, None] & columns_C).flatten()
