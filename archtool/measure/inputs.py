"""Example inputs of an architecture, as latency, export and counting use them everywhere.

Token ids are random and hold no padding; encoders also get an attention mask of ones, as in real use, so that
the cost of masking is measured. Images have the size that the architecture states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


def example_inputs(arch: Architecture, batch: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs by name: ``input_ids`` (B, T) with a mask for encoders, or ``pixel_values`` (B, C, H, W).

    Args:
        arch: what will be called.
        batch: samples.
        length: tokens per sample; images have their own size.
        seed: of the random numbers.

    Raises:
        InputError: the architecture takes other inputs, or sequences that are not as long.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    if arch.inputs == ("pixel_values",):
        shape = (batch, arch.size["channels"], int(arch.fact["image_height"]), int(arch.fact["image_width"]))
        return {"pixel_values": torch.randn(shape, generator=generator)}
    if arch.inputs != ("input_ids",):
        raise InputError(f"no example inputs are known for the inputs {', '.join(arch.inputs)}")
    longest = int(arch.fact.get("max_positions", length))
    if length > longest:
        raise InputError(f"length {length} is more than the model's {longest} positions", "Give a shorter --length.")
    allowed = torch.tensor(sorted(set(range(arch.size["vocab"])) - padding_ids(arch)))
    ids_BT = allowed[torch.randint(len(allowed), (batch, length), generator=generator)]
    return {"input_ids": ids_BT} | ({"attention_mask": torch.ones_like(ids_BT)} if is_masked(arch) else {})


def padding_ids(arch: Architecture) -> set[int]:
    """Token ids that operators take for padding, and id 0, which most tokenizers do."""
    ops = [place.layer.op for place in arch.places]
    stated = {int(getattr(op, name)) for op in ops for name in ("pad_offset", "pad_id") if hasattr(op, name)}
    return (stated | {0}) - {-1} if arch.size.get("vocab", 0) > len(stated) + 1 else set()


def is_masked(arch: Architecture) -> bool:
    """Whether real use gives an attention mask: text that is read in both directions."""
    causal = [bool(getattr(place.layer.op, "causal", True)) for place in arch.places]
    return "input_ids" in arch.inputs and not all(causal)


def input_length(arch: Architecture, length: int) -> int:
    """``length``, or the height of the architecture's images."""
    return int(arch.fact["image_height"]) if "image_height" in arch.fact else length
