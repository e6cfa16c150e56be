"""Inputs that any run of a model can repeat: random but valid ids with a padded row, or random pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.ir.architecture import Architecture
from archtool.operators.pool import Pool
from archtool.operators.token_stem import TokenStem

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TOKENS = 12
PADDED = 4


def reference_inputs(arch: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Two samples by input name; of text, the second ends in padding (with its attention mask)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    if arch.inputs[0] == "input_ids":
        return _text(arch, generator)
    if arch.inputs[0] == "pixel_values":
        size = (arch.size["channels"], int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        return {"pixel_values": torch.randn((2, *size), generator=generator)}
    raise InputError(f"no reference inputs for {arch.inputs[0]!r}", "Verify the native dialect's files by hash.")


def _text(arch: Architecture, generator: torch.Generator) -> dict[str, Tensor]:
    import torch

    stem = next(place.layer.op for place in arch.places if isinstance(place.layer.op, TokenStem))
    tokens = max(2, min(TOKENS, int(arch.fact.get("max_positions", TOKENS))))
    ids = torch.randint(0, arch.size[stem.vocab], (2, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, tokens - min(PADDED, tokens // 2) :] = 0
    inputs = {"input_ids": _padded(ids, mask, _pad_id(arch, stem)), "attention_mask": mask}
    if stem.types:
        inputs["token_type_ids"] = torch.randint(0, arch.size[stem.types], ids.shape, generator=generator)
    return inputs


def _pad_id(arch: Architecture, stem: TokenStem) -> int:
    """The padding id where the model gives it a meaning; -1 where any id will do."""
    pools = [p.layer.op.pad_id for p in arch.places if isinstance(p.layer.op, Pool)]
    return max([stem.pad_offset, *pools])


def _padded(ids: Tensor, mask: Tensor, pad_id: int) -> Tensor:
    """Ids with the padding id where the mask is 0, and only there."""
    if pad_id < 0:
        return ids
    return ids.masked_fill(ids == pad_id, 0 if pad_id else 1).masked_fill(mask == 0, pad_id)
