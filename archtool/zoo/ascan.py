"""Conv-then-attention hybrids after AsCAN (Kag et al. 2024, "Asymmetric Convolution-Attention Networks").

Each stage is a word of C (inverted residual with a squeeze-excite gate) and T (attention and perceptron), such as CC,
CCC, CCT, TTT: which operator stands at which position is the design's axis. The paper prints no code; inner ratios are
those of its text, and no parameter count is stated.
"""

from __future__ import annotations

from archtool.errors import InputError
from archtool.families.base import Draft
from archtool.families.encoder import add_final, self_attention
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.conv import GridConv
from archtool.operators.conv_stem import ConvStem
from archtool.operators.mbconv import MBConv
from archtool.operators.mlp import Mlp
from archtool.operators.pool import Pool
from archtool.zoo.common import Count, classifier, image_draft

LAYER, BATCH = NormSpec("layer", 1e-5), NormSpec("batch")


def architecture(
    image_size: Count, stages: tuple[str, ...], widths: tuple[int, ...], head_width: Count, mlp_ratio: float,
    expansion: float, num_labels: Count, num_channels: Count = 3, stem_width: Count = 64,
) -> Architecture:  # fmt: skip
    """The classifier whose stages are the given words, at the given widths; every stage halves the grid."""
    if len(stages) != len(widths):
        raise InputError(f"stages names {len(stages)} words and widths {len(widths)} numbers", "Give one for each.")
    draft = image_draft(image_size, num_channels)
    draft.sizes["stem.width"] = stem_width
    first = ConvStem(into="stem.width", stride=(2, 2), act="gelu", bias=False)
    draft.block("stem0", (Layer("conv", first, branch=BATCH, residual=False), {}))
    draft.block("stem1", (Layer("conv", GridConv(into="stem.width"), residual=False), {}))
    entering = "stem.width"
    for s, (word, width) in enumerate(zip(stages, widths, strict=True)):
        draft.sizes[f"s{s}.width"] = width
        down = MBConv(stride=(2, 2), into=f"s{s}.width", act="gelu")
        hidden = {"hidden": int(draft.sizes[entering] * expansion)}
        draft.block(f"down{s}", (Layer("conv", down, branch=BATCH, residual=False), hidden))
        _stage(draft, s, word, width, head_width, mlp_ratio, expansion)
        entering = f"s{s}.width"
    add_final(draft, LAYER)
    classifier(draft, num_labels, Pool(mode="mean"))
    return draft.done()


def _stage(
    draft: Draft, stage: int, word: str, width: int, head_width: int, mlp_ratio: float, expansion: float
) -> None:
    """The blocks of one stage."""
    unknown = sorted(set(word) - {"C", "T"})
    if unknown or not word:
        raise InputError(f"stages: {word!r} is no word of C and T", "Write for example CCT.")
    attention, heads = self_attention(width, max(1, width // head_width))
    for i, letter in enumerate(word):
        name = f"s{stage}b{i}"
        if letter == "C":
            sizes = {"hidden": int(width * expansion), "inner": max(1, width // 4)}
            draft.block(name, (Layer("conv", MBConv(act="gelu", se="silu"), branch=BATCH), sizes), stage=f"s{stage}")
        else:
            ffn = Layer("ffn", Mlp(act="gelu"), pre=LAYER), {"hidden": int(width * mlp_ratio)}
            draft.block(name, (Layer("attn", attention, pre=LAYER), heads), ffn, stage=f"s{stage}")
