"""What encoder-decoder families share: both stacks as blocks, and the sizes that a configuration says for both.

embed → e0 … (stage s0) → encoded;  decoder_embed → d0 … (stage s1) reading encoded → final → head
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.families.base import Draft
from archtool.families.decoder import common, operators, plain
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.attention import Attention
from archtool.operators.cross_attention import CrossAttention
from archtool.operators.mlp import Mlp
from archtool.operators.token_stem import TokenStem

STACKS = {"encoder": ("e", "s0", "encoded"), "decoder": ("d", "s1", "final")}
"""Stack → prefix of its blocks, their stage, the block that ends it."""
INPUTS = ("input_ids", "decoder_input_ids")


def add_stack(
    draft: Draft, stack: str, depth: int, heads: Mapping[str, int], hidden: int, act: str, norm: NormSpec, *, post: bool
) -> None:
    """Blocks of biased attention and MLP, in a decoder with cross-attention; a last norm where they are pre-norm."""
    prefix, stage, last = STACKS[stack]
    where: dict[str, Any] = {"post" if post else "pre": norm}
    scale, decoder = float(heads["qk"] ** -0.5), stack == "decoder"
    own: tuple[Layer, Mapping[str, int]] = Layer("attn", Attention(scale=scale, causal=decoder), **where), heads
    other = Layer("cross", CrossAttention(scale=scale), reads=("encoded",), **where), heads
    ffn = Layer("ffn", Mlp(act=act), **where), {"hidden": hidden}
    for i in range(depth):
        draft.block(f"{prefix}{i}", own, *([other] if decoder else []), ffn, stage=stage)
    draft.block(last, plain("norm", None, pre=None if post else norm))


def stems(arch: Architecture) -> list[TokenStem]:
    """The token tables of both sides."""
    return operators(arch, TokenStem, "")


def norms(arch: Architecture) -> list[NormSpec]:
    """All norms of layers, without those inside operators."""
    return [n for b in arch.blocks for layer in b.layers for n in (layer.pre, layer.branch, layer.post) if n]


def common_size(arch: Architecture, *locals_: str, stages: tuple[str, ...] = ("s0", "s1")) -> int | None:
    """The size that these local axes have in all layers of these stages; None where they differ."""
    layers = [f"{b.owner}.{layer.name}" for stage in stages for b in arch.stage(stage) for layer in b.layers]
    return common(n for axis, n in arch.sizes if axis.rpartition(".")[0] in layers and axis.split(".")[-1] in locals_)


def whole_heads(arch: Architecture, stage: str, width: str) -> int | None:
    """The head count of a stage where all heads are whole: width / heads dimensions, and the scale of so many."""
    mixers: list[Any] = [*operators(arch, Attention, stage), *operators(arch, CrossAttention, stage)]
    heads, each, group = (common_size(arch, *axes, stages=(stage,)) for axes in (("kv",), ("qk", "v"), ("group",)))
    if not heads or not each or group != 1:
        return None
    said = heads * each == arch.size[width] and {op.scale for op in mixers} == {float(each**-0.5)}
    return heads if said else None
