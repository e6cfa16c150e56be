"""CCT (Hassani et al. 2021, "Escaping the Big Data Paradigm with Compact Transformers"), after its reference code.

Convolutions with max pooling make the tokens; each block is ``x = norm(x + attn(norm(x)))``, ``x = x + mlp(x)``;
sequence pooling stands before the classifier.
"""

from __future__ import annotations

from archtool.families.base import Draft
from archtool.families.encoder import add_final, plain, self_attention
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.conv import GridConv
from archtool.operators.conv_stem import ConvStem
from archtool.operators.grid_pool import GridPool
from archtool.operators.mlp import Mlp
from archtool.operators.positions import Positions
from archtool.operators.seq_pool import SeqPool
from archtool.zoo.common import Count, classifier, grid_after, image_draft

NORM = NormSpec("layer", 1e-5)


def architecture(
    image_size: Count, depth: Count, heads: Count, mlp_ratio: float, width: Count, kernel_size: Count,
    conv_layers: Count, num_labels: Count, num_channels: Count = 3, conv_width: Count = 64,
) -> Architecture:  # fmt: skip
    """The classifier that the paper calls CCT-``depth``/``kernel_size``x``conv_layers``."""
    draft = image_draft(image_size, num_channels)
    draft.sizes.update({"stem.width": conv_width, "s0.width": width})
    tokens = _tokenizer(draft, image_size, kernel_size, conv_layers)
    draft.block("positions", plain("table", Positions(), positions=tokens))
    attention, sizes = self_attention(width, heads, bias=False)
    layers = (
        (Layer("attn", attention, pre=NORM, post=NORM), sizes),
        (Layer("ffn", Mlp(act="gelu")), {"hidden": int(width * mlp_ratio)}),
    )
    for i in range(depth):
        draft.block(f"b{i}", *layers, stage="s0")
    add_final(draft, NORM)
    classifier(draft, num_labels, SeqPool())
    return draft.done()


def _tokenizer(draft: Draft, image_size: int, kernel: int, layers: int) -> int:
    """Convolution, ReLU and max pooling, ``layers`` times; the number of tokens that leaves."""
    grid, stride, padding = (image_size, image_size), max(1, kernel // 2 - 1), max(1, kernel // 2)
    for i in range(layers):
        into = "s0.width" if i == layers - 1 else "stem.width"
        conv = (ConvStem if i == 0 else GridConv)(
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(padding, padding),
            into=into,
            act="relu",
            bias=False,
        )
        draft.block(f"conv{i}", plain("conv", conv), plain("pool", GridPool(mode="max", stride=(2, 2))))
        grid = grid_after(grid_after(grid, kernel, stride, padding), 3, 2, 1)
    return grid[0] * grid[1]
