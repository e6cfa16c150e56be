"""Causal mixing of linear cost: ``S_t = γ S_{t-1} + k_tᵀ v_t``, ``y_t = q_t S_t``, in chunks (Sun et al. 2023, 2.2).

Inside a chunk all pairs are weighted at once; between chunks runs the state. A chunk of one token is the recurrence.

Shapes: ``B`` batch, ``H`` heads, ``C`` chunks, ``L`` tokens of a chunk, ``F`` features, ``V`` values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.operators.recurrence import steps

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 64


def chunked(
    q_BHTF: Tensor, k_BHTF: Tensor, v_BHTV: Tensor, decay_H: Tensor, state_BHFV: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (B, H, T, V) and the last state; ``decay_H`` is each head's γ."""
    import torch

    if torch.compiler.is_exporting():
        return _exported(q_BHTF, k_BHTF, v_BHTV, decay_H, state_BHFV)
    tokens = q_BHTF.shape[2]
    made, whole = [], tokens - tokens % CHUNK
    for start, stop, length in ((0, whole, CHUNK), (whole, tokens, tokens - whole)):
        if stop > start:
            q, k, v = (t[:, :, start:stop] for t in (q_BHTF, k_BHTF, v_BHTV))
            out_BHTV, state_BHFV = _whole(q, k, v, decay_H, state_BHFV, length)
            made.append(out_BHTV)
    return torch.cat(made, 2) if len(made) > 1 else made[0], state_BHFV


def _whole(
    q_BHTF: Tensor, k_BHTF: Tensor, v_BHTV: Tensor, decay_H: Tensor, state_BHFV: Tensor, length: int
) -> tuple[Tensor, Tensor]:
    import torch

    at_L = torch.arange(length, device=q_BHTF.device)
    q, k, v = (t.unflatten(2, (-1, length)) for t in (q_BHTF, k_BHTF, v_BHTV))
    base_H111 = decay_H[:, None, None, None]
    within_HLL = (base_H111 ** (at_L[:, None] - at_L).clamp_min(0)).tril()
    near_BHCLV = (q @ k.transpose(3, 4) * within_HLL) @ v
    added_BHCFV = (k * base_H111 ** (length - 1 - at_L[:, None])).transpose(3, 4) @ v
    forget_H11 = (decay_H**length)[:, None, None]

    def step(carry: tuple[Tensor], token: tuple[Tensor, ...]) -> tuple[tuple[Tensor], Tensor]:
        return (forget_H11 * carry[0] + token[0],), carry[0]

    (state_BHFV,), before_BCHFV = steps(step, (state_BHFV,), (added_BHCFV.transpose(1, 2),))
    far_BHCLV = (q * base_H111 ** (1 + at_L[:, None])) @ before_BCHFV.transpose(1, 2)
    return (near_BHCLV + far_BHCLV).flatten(2, 3), state_BHFV


def _exported(
    q_BHTF: Tensor, k_BHTF: Tensor, v_BHTV: Tensor, decay_H: Tensor, state_BHFV: Tensor
) -> tuple[Tensor, Tensor]:
    """One token after the other, as a loop of the graph."""

    def step(carry: tuple[Tensor], token: tuple[Tensor, ...]) -> tuple[tuple[Tensor], Tensor]:
        q_BHF, k_BHF, v_BHV = token
        state_BHFV = decay_H[:, None, None] * carry[0] + k_BHF[..., None] * v_BHV[..., None, :]
        return (state_BHFV,), (q_BHF[..., None] * state_BHFV).sum(2)

    (state_BHFV,), out_BTHV = steps(step, (state_BHFV,), tuple(t.transpose(1, 2) for t in (q_BHTF, k_BHTF, v_BHTV)))
    return out_BTHV.transpose(1, 2), state_BHFV


def chunked_macs(tokens: int, features: int, values: int) -> int:
    """Multiply-adds of one head: pairs inside chunks, what each adds to the state and reads from it."""
    whole, rest = divmod(tokens, CHUNK)
    pairs = whole * CHUNK**2 + rest**2
    return pairs * (features + values) + 2 * tokens * features * values
