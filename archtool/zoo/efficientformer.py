"""EfficientFormer (Li et al. 2022), after its reference code.

Pooling blocks with BatchNorm on the grid, and in the last stage attention blocks with a bias per distance. Two class
heads, one of them for distillation, are averaged.
"""

from __future__ import annotations

from archtool.errors import InputError
from archtool.families.base import Draft
from archtool.families.encoder import add_final, plain
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.act import Act
from archtool.operators.average import Average
from archtool.operators.conv import GridConv
from archtool.operators.conv_stem import ConvStem
from archtool.operators.dense import Dense
from archtool.operators.down_conv import DownConv
from archtool.operators.grid_pool import GridPool
from archtool.operators.mlp import Mlp
from archtool.operators.offset_attention import OffsetAttention
from archtool.operators.pool import Pool
from archtool.zoo.common import Count, grid_after, image_draft

LAYER, BATCH = NormSpec("layer", 1e-5), NormSpec("batch", 1e-5)
Sized = tuple[Layer, dict[str, int]]


def architecture(
    image_size: Count, depths: tuple[Count, ...], widths: tuple[Count, ...], attention_blocks: int, num_labels: Count,
    mlp_ratio: float = 4.0, pool_size: Count = 3, heads: Count = 8, key_dim: Count = 32, value_dim: Count = 128,
    num_channels: Count = 3,
) -> Architecture:  # fmt: skip
    """The classifier; the last ``attention_blocks`` blocks of the last stage have attention."""
    if len(depths) != len(widths) or attention_blocks > depths[-1]:
        raise InputError(
            "config: depths and widths differ in length, or attention_blocks exceeds depths", "Correct them."
        )
    draft = image_draft(image_size, num_channels)
    draft.sizes.update({"stem.width": widths[0] // 2, "s0.width": widths[0]})
    grid = _stem(draft, (image_size, image_size))
    pool = GridPool(kernel=(pool_size, pool_size), padding=(pool_size // 2, pool_size // 2), minus_input=True)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            draft.sizes[f"s{stage}.width"] = width
            grid = grid_after(grid, 3, 2, 1)
            down = DownConv(kernel=(3, 3), padding=(1, 1), into=f"s{stage}.width")
            draft.block(f"down{stage}", (Layer("conv", down, branch=BATCH, residual=False), {}))
        attention = OffsetAttention(scale=key_dim**-0.5, grid=grid)
        sizes = {"kv": heads, "group": 1, "qk": key_dim, "v": value_dim}
        mixes = attention_blocks if stage == len(depths) - 1 else 0
        for i in range(depth):
            late = i >= depth - mixes
            layers = _late(attention, sizes) if late else _early(pool)
            ffn = _ffn(late), {"hidden": int(width * mlp_ratio)}
            draft.block(f"s{stage}b{i}", layers, ffn, stage=f"s{stage}")
    add_final(draft, LAYER)
    _heads(draft, num_labels)
    return draft.done()


def _stem(draft: Draft, grid: tuple[int, int]) -> tuple[int, int]:
    """Two convolutions of stride 2, each with BatchNorm and ReLU; the grid that leaves."""
    convs = ConvStem(stride=(2, 2), into="stem.width"), GridConv(stride=(2, 2), into="s0.width")
    for i, conv in enumerate(convs):
        draft.block(f"stem{i}", (Layer("conv", conv, branch=BATCH, residual=False), {}), plain("act", Act(act="relu")))
        grid = grid_after(grid, 3, 2, 1)
    return grid


def _early(pool: GridPool) -> Sized:
    return Layer("pool", pool, scale=True), {}


def _late(attention: OffsetAttention, sizes: dict[str, int]) -> Sized:
    return Layer("attn", attention, pre=LAYER, scale=True), sizes


def _ffn(late: bool) -> Layer:
    if late:
        return Layer("ffn", Mlp(act="gelu"), pre=LAYER, scale=True)
    return Layer("ffn", Mlp(act="gelu", norm=BATCH, norm_first=True), branch=BATCH, scale=True)


def _heads(draft: Draft, classes: int) -> None:
    """A class head and a distillation head on the mean of the tokens, and their mean."""
    draft.sizes["classes"] = classes
    for name in ("cls_head", "dist_head"):
        score = plain("score", Dense(into="classes"))
        draft.block(name, plain("mean", Pool(mode="mean")), score, inputs=("final",))
    draft.block("head", plain("mean", Average()), inputs=("cls_head", "dist_head"))
    draft.output("logits", "head")
