"""Example inputs of an architecture, as latency, export and counting use them everywhere.

Token ids are random and hold no padding; encoders also get an attention mask of ones, as in real use, so that
the cost of masking is measured. Images have the size that the architecture states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.ir.architecture import roots
from archtool.ir.feeds import LENGTH, feeds, sample_shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from archtool.ir.architecture import Architecture
    from archtool.ir.operator import Feed


def example_inputs(arch: Architecture, batch: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs by name; token ids that are read in both directions come with a mask of ones.

    Args:
        arch: what will be called.
        batch: samples.
        length: tokens per sample; images and series have their own size.
        seed: of the random numbers.

    Raises:
        InputError: no operator says what an input holds, or sequences cannot be that long.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    known = feeds(arch)
    made: dict[str, Tensor] = {}
    for name in arch.inputs:
        if name not in known:
            raise InputError(f"no example inputs are known for the input {name!r}", "Give its stem a feeds method.")
        made[name] = random_input(arch, known[name], batch, length, generator)
    masks = {name.replace("input_ids", "attention_mask"): made[name] for name in masked_inputs(arch)}
    return made | {name: torch.ones_like(ids_BT) for name, ids_BT in masks.items()}


def random_input(arch: Architecture, feed: Feed, batch: int, length: int, generator: torch.Generator) -> Tensor:
    """A batch of one input: normal numbers, or ids below the feed's limit that stand for no padding."""
    import torch

    longest = int(arch.fact.get("max_positions", length))
    if LENGTH in feed.shape and length > longest:
        raise InputError(f"length {length} is more than the model's {longest} positions", "Give a shorter --length.")
    shape = (batch, *sample_shape(arch, feed, length))
    if not feed.below:
        return torch.randn(shape, generator=generator)
    allowed = torch.tensor(sorted(set(range(feed.below)) - padding_ids(arch)))
    return allowed[torch.randint(len(allowed), shape, generator=generator)]


def padding_ids(arch: Architecture) -> set[int]:
    """Token ids that operators take for padding, and id 0, which most tokenizers do."""
    ops = [place.layer.op for place in arch.places]
    stated = {int(getattr(op, name)) for op in ops for name in ("pad_offset", "pad_id") if hasattr(op, name)}
    return (stated | {0}) - {-1} if arch.size.get("vocab", 0) > len(stated) + 1 else set()


def masked_inputs(arch: Architecture) -> tuple[str, ...]:
    """The inputs of token ids that real use gives a mask for: text that is read in both directions."""
    came = roots(arch.blocks, arch.inputs)
    both = {came[p.block.name] for p in arch.places if not getattr(p.layer.op, "causal", True)}
    return tuple(name for name in arch.inputs if name.endswith("input_ids") and name in both)


def is_masked(arch: Architecture) -> bool:
    """Whether real use gives an attention mask."""
    return bool(masked_inputs(arch))


def input_length(arch: Architecture, length: int) -> int:
    """``length``, or the height of the architecture's images."""
    return int(arch.fact["image_height"]) if "image_height" in arch.fact else length
