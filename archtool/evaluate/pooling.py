"""From token states to one vector per sentence."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archtool.data.positions import by_position
from archtool.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


MODES = ("mean", "cls", "max", "last", "pooled")


@dataclass(frozen=True)
class Pooling:
    """How ``hidden`` (B, T, D) becomes (B, D); ``pooled`` takes the model's own ``pooled`` output.

    Padding does not count for mean, max and last. ``normalize`` divides by the L2 norm.
    """

    mode: str = "mean"
    normalize: bool = True


def pool(outputs: "Mapping[str, Tensor]", mask_BT: "Tensor | None", pooling: Pooling) -> "Tensor":
    """Embeddings (B, D) float32 from a model's outputs; a missing output is an `InputError`."""
    import torch
    import torch.nn.functional as F

    needed = "pooled" if pooling.mode == "pooled" else "hidden"
    if needed not in outputs:
        have = ", ".join(outputs)
        raise InputError(f"the model gives {have}; {pooling.mode} pooling needs {needed}", "choose another task")
    states = by_position(outputs[needed]).float()
    if pooling.mode != "pooled":
        if mask_BT is None:
            mask_BT = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        states = _reduce(states, mask_BT.bool(), pooling.mode)
    return F.normalize(states, dim=-1) if pooling.normalize else states


def _reduce(hidden_BTD: "Tensor", mask_BT: "Tensor", mode: str) -> "Tensor":
    import torch

    mask_BT1 = mask_BT[..., None]
    if mode == "mean":
        return (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
    if mode == "max":
        return hidden_BTD.masked_fill(~mask_BT1, float("-inf")).amax(1)
    places_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device).expand_as(mask_BT)
    if mode == "cls":
        first_B = places_BT.masked_fill(~mask_BT, mask_BT.shape[1] - 1).amin(1)
    elif mode == "last":
        first_B = places_BT.masked_fill(~mask_BT, 0).amax(1)
    else:
        raise InputError(f"no pooling {mode!r}", f"use one of {', '.join(MODES)}")
    return hidden_BTD[torch.arange(len(hidden_BTD), device=hidden_BTD.device), first_B]
