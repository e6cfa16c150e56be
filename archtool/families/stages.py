"""What families of images in stages share: stream widths, depths and numbers per stage.

Stage ``i`` is labelled ``s<i>``, its stream's axis is ``s<i>.width``, the block that leads to it ``down<i>``; blocks
are counted through (``b0``, ``b1``, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Draft, known_activation
from archtool.families.config import Config
from archtool.families.vision_encoder import pair
from archtool.ir.architecture import Architecture, Layer
from archtool.operators.activation import canonical, spelled
from archtool.operators.mlp import Mlp

Sized = tuple[Layer, dict[str, int]]


def stage_count(arch: Architecture) -> int:
    """Stages, also those that have lost all their blocks."""
    return 1 + sum(block.name.startswith("down") for block in arch.blocks)


def widths(arch: Architecture) -> list[int]:
    """The width of each stage's stream."""
    return [arch.size[f"s{i}.width"] for i in range(stage_count(arch))]


def depths(arch: Architecture) -> list[int]:
    """Blocks of each stage."""
    return [len(arch.stage(f"s{i}")) for i in range(stage_count(arch))]


def per_stage(c: Config, key: str, default: Sequence[int], stages: int) -> list[int]:
    """A list with a positive whole number for each stage (a longer one is cut, as Hugging Face's classes do)."""
    value = c.take(key, list(default))
    good = isinstance(value, list | tuple) and len(value) >= stages
    if not good or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value):
        raise InputError(f"config.json: {key} is {value!r}, not {stages} whole numbers", f"Correct {key}.")
    return list(value)[:stages]


def image_facts(c: Config, draft: Draft, default: int = 224) -> None:
    """Height and width of the images that costs are stated for."""
    height, width = pair(c.take("image_size", default), "image_size")
    draft.facts.update(image_height=height, image_width=width)


def activation_of(c: Config, default: str = "gelu") -> str:
    """The perceptrons' activation."""
    return known_activation(c.take("hidden_act", default), c.family)


def add_stage_blocks(draft: Draft, stage: int, count: int, *layers: Sized) -> None:
    """Equal blocks of a stage, counted on."""
    first = sum(bool(block.stage) for block in draft.blocks)
    for i in range(first, first + count):
        draft.block(f"b{i}", *layers, stage=f"s{stage}")


def scale_value(arch: Architecture, said: Any, default: float) -> float | None:
    """``layer_scale_init_value``: what it was where all blocks have gains, 0 where none has; None: mixed."""
    found = {layer.scale for b in arch.blocks if b.stage for layer in b.layers if layer.residual}
    if found == {False}:
        return 0.0
    return (said or default) if found <= {True} else None


def said_activation(arch: Architecture, said: Any) -> str | None:
    """The perceptrons' activation as Hugging Face spells it; ``said`` is kept where it means the same."""
    acts = {layer.op.act for b in arch.blocks if b.stage for layer in b.layers if isinstance(layer.op, Mlp)}
    act = acts.pop() if len(acts) == 1 else None
    same = act is None or (said is not None and canonical(str(said)) == act)
    return said if same else spelled(str(act))
