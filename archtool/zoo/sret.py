"""SReT (Shen et al. 2022, "Sliced Recursive Transformer"), after its reference code.

Every block is called twice with the same weights, the second time with other groups of tokens, and followed each time
by a perceptron of its own. Residual and branch each have a learned coefficient. Between stages, a depthwise
convolution makes two channels of each.
"""

from __future__ import annotations

from itertools import pairwise

from archtool.errors import InputError
from archtool.families.base import Draft
from archtool.families.encoder import plain
from archtool.ir.architecture import Architecture, Block, Layer, NormSpec
from archtool.operators.act import Act
from archtool.operators.attention import Attention
from archtool.operators.conv import GridConv
from archtool.operators.conv_stem import ConvStem
from archtool.operators.down_conv import DownConv
from archtool.operators.gain import Gain
from archtool.operators.group_attention import GroupAttention
from archtool.operators.mlp import Mlp
from archtool.operators.pool import Pool
from archtool.operators.positions import Positions
from archtool.zoo.common import Count, classifier, image_draft

NORM, BATCH = NormSpec("layer", 1e-6), NormSpec("batch", 1e-5)
LOOPS = 2
"""Calls of each block."""


def architecture(
    image_size: Count, head_dim: Count, depths: tuple[Count, ...], heads: tuple[Count, ...], groups: tuple[Count, ...],
    groups_again: tuple[Count, ...], mlp_ratio: float, between_ratio: float, num_labels: Count, num_channels: Count = 3,
) -> Architecture:  # fmt: skip
    """The classifier: ``depths`` counts the blocks' calls, ``groups`` those of the first and of the second call."""
    _check(depths, heads, groups, groups_again)
    draft = image_draft(image_size, num_channels)
    width = head_dim * heads[0]
    draft.sizes.update({"stem.width": width // 2, "s0.width": width})
    _stem(draft)
    draft.block("positions", plain("table", Positions(), positions=(image_size // 8) ** 2))
    for stage, (calls, count) in enumerate(zip(depths, heads, strict=True)):
        if stage:
            down = DownConv(kernel=(3, 3), padding=(1, 1), depthwise=True, multiplier=2)
            draft.block(f"down{stage}", plain("conv", down))
        sizes = {"kv": count, "group": 1, "qk": head_dim, "v": head_dim}
        widths = head_dim * count, int(head_dim * count * mlp_ratio), int(head_dim * count * between_ratio)
        slices = groups[stage], groups_again[stage]
        for i in range(calls // LOOPS):
            _block(draft, f"s{stage}", i, slices, head_dim**-0.5, sizes, widths[1:])
    draft.block("final", plain("mean", Pool(mode="mean"), post=NORM))
    classifier(draft, num_labels)
    return draft.done()


def _check(depths: tuple[int, ...], heads: tuple[int, ...], *groups: tuple[int, ...]) -> None:
    if any(len(each) != len(heads) for each in (depths, *groups)):
        raise InputError(
            "config: depths, heads, groups and groups_again have different lengths", "One number per stage."
        )
    if any(later != 2 * one for one, later in pairwise(heads)) or any(n % LOOPS for n in depths):
        raise InputError("config: heads must double from stage to stage, depths be even", "Correct heads or depths.")


def _stem(draft: Draft) -> None:
    """Three convolutions of stride 2, each with BatchNorm and ReLU."""
    convs = ConvStem(stride=(2, 2), into="stem.width"), *(GridConv(stride=(2, 2), into="s0.width") for _ in range(2))
    for i, conv in enumerate(convs):
        draft.block(f"stem{i}", (Layer("conv", conv, branch=BATCH, residual=False), {}), plain("act", Act(act="relu")))


def _branch(name: str, op: Attention | Mlp, sizes: dict[str, int]) -> list[tuple[Layer, dict[str, int]]]:
    """``keep · x + gain · op(norm(x))``."""
    return [
        (Layer(f"{name}_keep", Gain(), residual=False), {}),
        (Layer(name, op, pre=NORM, residual=False, source="block"), sizes),
        (Layer(f"{name}_gain", Gain(), since=name), {}),
    ]


def _block(
    draft: Draft, stage: str, i: int, groups: tuple[int, int], scale: float, sizes: dict[str, int],
    hidden: tuple[int, int],
) -> None:  # fmt: skip
    """One block, its second call, and the perceptron after each call."""
    first = f"{stage}b{i}"
    for call, slices in enumerate(groups):
        grouped = slices > 1
        op = GroupAttention(scale=scale, groups=slices, dealt=call > 0) if grouped else Attention(scale=scale)
        layers = [*_branch("attn", op, sizes), *_branch("ffn", Mlp(act="gelu"), {"hidden": hidden[0]})]
        if call == 0:
            draft.block(first, *layers, stage=stage)
        else:
            draft.blocks.append(Block(f"{first}again", tuple(layer for layer, _ in layers), share=first, stage=stage))
        between = _branch("ffn", Mlp(act="gelu"), {"hidden": hidden[1]})
        draft.block(f"{first}between{call}", *between, stage=stage)
