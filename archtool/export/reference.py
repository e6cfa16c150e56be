"""Inputs that any run of a model can repeat: random but valid ids with a padded row, or random pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.ir.architecture import Architecture
from archtool.ir.feeds import feeds, sample_shape
from archtool.operators.pool import Pool
from archtool.operators.token_stem import TokenStem

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = 12
PADDED = 4
SHORTER = 3


def reference_inputs(arch: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Two samples by input name; of text, the second ends in padding (with its mask); a decoder has fewer tokens."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = max(2 + SHORTER * (len(arch.inputs) > 1), min(TOKENS, int(arch.fact.get("max_positions", TOKENS))))
    made: dict[str, Tensor] = {}
    for name, feed in feeds(arch).items():
        shape = (2, *sample_shape(arch, feed, tokens - SHORTER * name.startswith("decoder_")))
        if not feed.below:
            made[name] = torch.randn(shape, generator=generator)
            continue
        made[name] = torch.randint(0, feed.below, shape, generator=generator)
        if name == "input_ids" and name in arch.inputs:
            mask = torch.ones_like(made[name])
            mask[1, tokens - min(PADDED, tokens // 2) :] = 0
            made |= {name: _padded(made[name], mask, _pad_id(arch)), "attention_mask": mask}
    return made


def _pad_id(arch: Architecture) -> int:
    """The padding id where the model gives it a meaning; -1 where any id will do."""
    ops = [place.layer.op for place in arch.places]
    stated = [op.pad_id for op in ops if isinstance(op, Pool)]
    return max([-1, *stated, *(op.pad_offset for op in ops if isinstance(op, TokenStem))])


def _padded(ids: Tensor, mask: Tensor, pad_id: int) -> Tensor:
    """Ids with the padding id where the mask is 0, and only there."""
    if pad_id < 0:
        return ids
    return ids.masked_fill(ids == pad_id, 0 if pad_id else 1).masked_fill(mask == 0, pad_id)
