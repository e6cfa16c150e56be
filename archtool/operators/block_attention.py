"""Hierarchical attention: to the tokens of the own block, and to summaries of all other blocks, in one softmax.

Source: Ren et al. 2021 (Combiner: full support by direct and indirect attention). A summary is the mean key and value
of a block; its score gets the logarithm of the block's tokens, so that it weighs as much as they would with that key:
where the keys of every block are equal, the result is full attention. Axes: ``kv`` (heads), ``qk``, ``v``.
Shapes: `H` heads, `N` blocks, `L` tokens of a block, `S` keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import FREE, SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part, Witness
from archtool.operators.attention import split_heads

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class BlockAttention(Operator):
    """Softmax attention to the own block and to the other blocks' means.

    Attributes:
        scale: factor on the scores.
        block: tokens of a block; the last one may have fewer.
        causal: attend to earlier tokens of the block and to earlier blocks only.
        bias / out_bias: biases on q, k, v / on the output projection.
    """

    kind: ClassVar[str] = "mix.attn.hier"
    cost_form: ClassVar[str] = "T D kv (2 qk + 2 v) + kv T (block + T / block) (qk + v)"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "qk": SELECT | {"scale"}, "v": FREE}
    papers: ClassVar[tuple[int, ...]] = (29, 198, 231)

    scale: float
    block: int
    causal: bool = False
    bias: bool = True
    out_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Projections ``q``, ``k``, ``v``, ``o`` and the head count."""
        queries, values = site.dim("kv", "qk"), site.dim("kv", "v")
        return (
            Linear("q", queries, site.stream, self.bias),
            Linear("k", queries, site.stream, self.bias),
            Linear("v", values, site.stream, self.bias),
            Linear("o", site.stream, values, self.out_bias),
            Witness("heads", (site.dim("kv"),)),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Every token (the last block filled up) with its block and with all summaries."""
        blocks = -(-flow.length // self.block)
        pairs = blocks * self.block * (self.block + blocks) * flow.sequences
        return site.size("kv") * pairs * (site.size("qk") + site.size("v"))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Keys and values of every position."""
        return site.size("kv") * flow.tokens * (site.size("qk") + site.size("v"))

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values, mixed values and the scores."""
        scores = self.block + -(-flow.length // self.block)
        return site.size("kv") * flow.tokens * (2 * site.size("qk") + 2 * site.size("v") + scores)

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "o" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("q", "k", "v") if norm == "pre" else ()

    def with_bias(self, parts: Sequence[str]) -> BlockAttention:
        """See `Operator.with_bias`."""
        return replace(self, bias=self.bias or set(parts) != {"o"}, out_bias=self.out_bias or "o" in parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        sizes = {"kv": 2, "qk": 4, "v": 6}
        return (
            on_image([branch(cls(scale=0.5, block=16), **sizes)]),
            in_text([branch(cls(scale=0.5, block=5, bias=False), **sizes)]),
            in_text([branch(cls(scale=0.5, block=5, causal=True), **sizes)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, keys and values of earlier tokens are prepended."""
        q, k, v = (split_heads(y, m.heads.shape[0]) for y in (m.q(x), m.k(x), m.v(x)))
        if self.causal:
            k, v = ctx.extend(k, v)
        padding_BS = ctx.padding(ctx.root)
        real_BS = k.new_ones(1, k.shape[2]) if padding_BS is None else padding_BS.to(k.dtype)
        mixed = self._resumed(q, k, v, real_BS, ctx.positions) if ctx.past else self._blocked(q, k, v, real_BS)
        return m.o(mixed.transpose(1, 2).flatten(2))

    def _blocked(self, q: Tensor, k: Tensor, v: Tensor, real_BS: Tensor) -> Tensor:
        """All queries of the keys' positions, block by block."""
        import torch

        tokens = q.shape[2]
        q, k, v = (in_blocks(y, self.block) for y in (q, k, v))
        real_BNL = in_blocks(real_BS[..., None], self.block).squeeze(-1)
        keys_BHNK, values_BHNV, weight_BN = summaries(k, v, real_BNL)
        order = torch.arange(k.shape[2], device=k.device)
        others = order[:, None] > order if self.causal else order[:, None] != order
        seen = real_BNL[:, None, :, None, :] > 0
        if self.causal:
            seen = seen & torch.ones(self.block, self.block, dtype=torch.bool, device=k.device).tril()
        near = masked(q @ k.transpose(3, 4) * self.scale, seen)
        far = (q.flatten(2, 3) @ keys_BHNK.transpose(2, 3)).unflatten(2, (-1, self.block)) * self.scale
        far = masked(far + weight_BN[:, None, None, None], others[:, None])
        weights = torch.softmax(torch.cat((near, far), dim=-1), dim=-1)
        inside, outside = weights[..., : self.block], weights[..., self.block :]
        mixed = (inside @ v).flatten(2, 3) + outside.flatten(2, 3) @ values_BHNV
        return mixed[:, :, :tokens]

    def _resumed(self, q: Tensor, k: Tensor, v: Tensor, real_BS: Tensor, positions_T: Tensor) -> Tensor:
        """A few queries at the end of all keys."""
        import torch

        blocked_k, blocked_v = in_blocks(k, self.block), in_blocks(v, self.block)
        real_BNL = in_blocks(real_BS[..., None], self.block).squeeze(-1)
        keys_BHNK, values_BHNV, weight_BN = summaries(blocked_k, blocked_v, real_BNL)
        place_S = torch.arange(k.shape[2], device=k.device)
        own_T1 = (positions_T // self.block)[:, None]
        inside = (place_S // self.block == own_T1) & (place_S <= positions_T[:, None])
        near = masked(q @ k.transpose(2, 3) * self.scale, inside & (real_BS[:, None, None, :] > 0))
        earlier = torch.arange(keys_BHNK.shape[2], device=k.device) < own_T1
        far = masked(q @ keys_BHNK.transpose(2, 3) * self.scale + weight_BN[:, None, None], earlier)
        weights = torch.softmax(torch.cat((near, far), dim=-1), dim=-1)
        return weights[..., : k.shape[2]] @ v + weights[..., k.shape[2] :] @ values_BHNV


def in_blocks(x_BTC: Tensor, block: int) -> Tensor:
    """(..., T, C) → (..., N, L, C), filled up with zeros."""
    import torch.nn.functional as F

    return F.pad(x_BTC, (0, 0, 0, -x_BTC.shape[-2] % block)).unflatten(-2, (-1, block))


def summaries(k_BHNLK: Tensor, v_BHNLV: Tensor, real_BNL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean keys and values of the real tokens of every block, and the logarithm of their number."""
    real_B1NL1, count_BN = real_BNL[:, None, :, :, None], real_BNL.sum(-1)
    some_B1N1 = count_BN.clamp(min=1)[:, None, :, None]
    keys_BHNK, values_BHNV = ((y * real_B1NL1).sum(3) / some_B1N1 for y in (k_BHNLK, v_BHNLV))
    return keys_BHNK, values_BHNV, masked(count_BN.clamp(min=1).log(), count_BN > 0)


def masked(scores: Tensor, seen: Tensor) -> Tensor:
    """Scores, the lowest number where nothing is seen."""
    import torch

    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min / 2)
