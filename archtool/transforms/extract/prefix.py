"""Uniform prefix extraction: the first units of each axis, as nested (MatFormer) checkpoints order them.

Source: Devvrit et al. 2023 (MatFormer), section 3: nested ffn prefixes. On a checkpoint that was not trained nested
this is the naive baseline.
"""

from __future__ import annotations

from collections.abc import Sequence

from archtool.ir.architecture import Architecture


def prefix_order(arch: Architecture, axes: Sequence[str]) -> dict[str, list[int]]:
    """Axis → its indices in order."""
    return {axis: list(range(arch.size[axis])) for axis in axes}
