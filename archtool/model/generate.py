"""Greedy and sampled generation with the operators' own state (KV cache)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
) -> Tensor:
    """Continue ``ids_BT`` by up to ``steps`` tokens.

    Args:
        temperature: 0 for greedy; otherwise softmax sampling with ``generator``.
        stop: token id after which a row is finished; generation ends when all rows are.
        cache: keep state between steps; False recomputes the whole sequence (the same tokens, slower).

    Returns:
        (B, T + new) token ids.
    """
    state: dict[str, object] = {}
    fresh = ids_BT
    for _ in range(steps):
        out = model(input_ids=fresh, state=state) if cache else model(input_ids=ids_BT)
        following = _choose(out["logits"][:, -1], temperature, generator)
        ids_BT = torch.cat((ids_BT, following), dim=1)
        fresh = following
        if stop is not None and bool((ids_BT == stop).any(dim=1).all()):
            break
    return ids_BT


def _choose(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0.0:
        return logits_BV.argmax(-1, keepdim=True)
    return torch.multinomial(torch.softmax(logits_BV / temperature, -1), 1, generator=generator)
