"""Softmax self-attention with a learned bias per head and bucket of relative positions, added to the scores.

Source: Raffel et al. 2020 (T5), section 2.1. Half of the buckets are single distances, the others grow
logarithmically up to the largest distance; without ``causal``, each direction has half of them. Blocks may share
one table. Shapes: `B` batch, `H` query heads, `T` queries, `S` keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import dim
from archtool.ir.operator import Site
from archtool.ir.parts import Constant, Part, Role, Vector
from archtool.operators.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True)
class Buckets:
    """Bucket of every relative position (key minus query) from ``-distance`` to ``distance``."""

    kind: ClassVar[str] = "buckets"

    count: int
    distance: int
    causal: bool

    def values(self) -> Tensor:
        """Row ``p + distance`` is the bucket of relative position ``p``; later keys of a causal table have 0."""
        import torch

        apart = torch.arange(-self.distance, self.distance + 1)
        each = self.count if self.causal else self.count // 2
        away = (-apart).clamp(min=0) if self.causal else apart.abs()
        near = each // 2
        ratio = torch.log(away.clamp(min=near).float() / near) / math.log(self.distance / near)
        far = (near + (ratio * (each - near)).long()).clamp(max=each - 1)
        upper = 0 if self.causal else (apart > 0).long() * each
        return torch.where(away < near, away, far) + upper


@dataclass(frozen=True, kw_only=True)
class BiasedAttention(Attention):
    """Softmax self-attention with a bias per relative position.

    Attributes:
        buckets: rows of the bias table.
        distance: relative positions from here on share a bucket.
        tie: bias of another layer that is used (``"e0.attn.bias"``), or ``""`` for one of its own.
    """

    kind: ClassVar[str] = "mix.attn.relbias"
    constraints: ClassVar[tuple[str, ...]] = ("layers that share a table keep the same heads",)
    papers: ClassVar[tuple[int, ...]] = (239,)

    buckets: int = 32
    distance: int = 128
    tie: str = ""

    def __post_init__(self) -> None:
        if self.softcap:
            raise TypeError("a bias on soft-capped scores is not defined")

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Those of `Attention`; ``bias`` (buckets, heads) and the bucket of each relative position."""
        roles = (Role.INDEX, Role.ELEMENTWISE)
        table = Constant("places", (dim(2 * self.distance + 1),), Buckets(self.buckets, self.distance, self.causal))
        bias = Vector("bias", (dim(self.buckets), site.dim("kv", "group")), roles, tie=self.tie)
        return (*super().parts(site), bias, table)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        both = cls(scale=0.5, buckets=8, distance=6, bias=False)
        owner = cls(scale=1.0, causal=True, buckets=6, distance=8, out_bias=False)
        user = cls(scale=1.0, causal=True, buckets=6, distance=8, tie="b0.op.bias")
        sizes = {"kv": 2, "group": 2, "qk": 4, "v": 6}
        return (in_text([branch(both, **sizes)]), in_text([branch(owner, **sizes)], [branch(user, **sizes)]))

    def _mix(self, m: Any, q: Tensor, k: Tensor, v: Tensor, ctx: Any) -> Tensor:
        import torch.nn.functional as F

        owner = self.tie or f"{ctx.place}.bias"
        bias = ctx.once(("bias", owner, ctx.root, q.dtype), lambda: self._bias(m, ctx, q.dtype))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)

    def _bias(self, m: Any, ctx: Any, dtype: Any) -> Tensor:
        """What is added to the scores (1 or B, H, T, S): the bias, and the lowest number where nothing may be seen."""
        import torch

        keys_S = torch.arange(ctx.past + ctx.tokens, device=m.bias.device)
        apart_TS = (keys_S - ctx.positions[:, None]).clamp(-self.distance, self.distance)
        bias = m.bias.to(dtype).t()[:, m.places[apart_TS + self.distance]][None]
        mask = ctx.full_mask(self.causal, self.window)
        return bias if mask is None else bias.masked_fill(~mask, torch.finfo(dtype).min)
