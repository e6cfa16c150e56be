"""SpectFormer (Patro et al. 2023): a plain vision transformer whose first blocks gate the spectrum.

Blocks before ``spectral`` mix tokens by a learned filter on their Fourier transform, later ones by attention; both are
followed by a perceptron, and norms stand in front.
"""

from __future__ import annotations

from archtool.families.encoder import add_final, plain, self_attention
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.operators.fft_gate import SpectralGate
from archtool.operators.mlp import Mlp
from archtool.operators.patch_stem import PatchStem
from archtool.operators.pool import Pool
from archtool.zoo.common import Count, classifier, grid_after, image_draft

NORM = NormSpec("layer", 1e-6)


def architecture(
    image_size: Count, patch_size: Count, depth: Count, spectral: int, heads: Count, mlp_ratio: float, width: Count,
    num_labels: Count, num_channels: Count = 3,
) -> Architecture:  # fmt: skip
    """The classifier with ``spectral`` of its ``depth`` blocks before the attention."""
    draft = image_draft(image_size, num_channels)
    draft.sizes["s0.width"] = width
    grid = grid_after((image_size, image_size), patch_size, patch_size, 0)
    stem = PatchStem(patch=(patch_size, patch_size), tokens=())
    draft.block("embed", plain("patches", stem, positions=grid[0] * grid[1]))
    attention, sizes = self_attention(width, heads)
    for i in range(depth):
        mixer = SpectralGate(grid=grid) if i < spectral else attention
        ffn = Layer("ffn", Mlp(act="gelu"), pre=NORM), {"hidden": int(width * mlp_ratio)}
        draft.block(f"b{i}", (Layer("mix", mixer, pre=NORM), {} if i < spectral else sizes), ffn, stage="s0")
    add_final(draft, NORM)
    classifier(draft, num_labels, Pool(mode="mean"))
    return draft.done()
