"""Greedy and sampled generation with the operators' own state (KV cache); an encoder runs once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from archtool.ir.architecture import Architecture


@torch.inference_mode()
def generate(
    model: nn.Module,
    ids_BT: Tensor,
    steps: int,
    *,
    temperature: float = 0.0,
    stop: int | None = None,
    generator: torch.Generator | None = None,
    cache: bool = True,
    given: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Continue ``ids_BT`` by up to ``steps`` tokens.

    Args:
        ids_BT: what the graph's last input starts with (of an encoder-decoder, what decoding starts with).
        temperature: 0 for greedy; otherwise softmax sampling with ``generator``.
        stop: token id after which a row is finished and filled with it (in the prompt it has no meaning);
            generation ends when all rows are finished.
        cache: keep state between steps; False recomputes the whole sequence (the same tokens, slower).
        given: the other inputs, with their masks (an encoder's ``input_ids`` and ``attention_mask``).

    Returns:
        (B, T + new) token ids.

    The model is one of `model.build`; its state is dropped where earlier keys change (LongRoPE).
    """
    state: dict[str, object] = {}
    fresh, ended = ids_BT, torch.zeros_like(ids_BT[:, :1], dtype=torch.bool)
    turns, name = turning_lengths(model), _architecture(model).inputs[-1]
    for _ in range(steps):
        out = model(**(given or {}), **{name: fresh if cache else ids_BT}, state=state if cache else None)
        following = _choose(out["logits"][:, -1], temperature, generator)
        if stop is not None:
            following = following.masked_fill(ended, stop)
            ended = ended | (following == stop)
        ids_BT = torch.cat((ids_BT, following), dim=1)
        fresh = following
        if ids_BT.shape[1] in turns:
            state, fresh = {}, ids_BT
        if bool(ended.all()):
            break
    return ids_BT


def turning_lengths(model: nn.Module) -> set[int]:
    """Lengths at which the keys of earlier tokens change: a LongRoPE text that no longer is a short one."""
    ops = (layer.op for block in _architecture(model).blocks for layer in block.layers)
    rotaries = (getattr(op, "rotary", None) for op in ops)
    return {rotary.switch + 1 for rotary in rotaries if rotary is not None and rotary.factors}


def _architecture(model: nn.Module) -> Architecture:
    return model.architecture  # type: ignore[return-value]


def _choose(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0.0:
        return logits_BV.argmax(-1, keepdim=True)
    return torch.multinomial(torch.softmax(logits_BV / temperature, -1), 1, generator=generator)
