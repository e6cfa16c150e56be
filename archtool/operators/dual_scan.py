"""The scan of Mamba-2 in chunks: ``h_t = exp(l_t) h_{t-1} + B_t x_tᵀ``, ``y_t = C_t h_t`` with one decay per head.

Source: Dao and Gu 2024 (structured state space duality, section 6): inside a chunk all pairs are weighted at once by
products of decays, between chunks runs the state. A chunk of one token is the recurrence.

Shapes: ``B`` batch, ``H`` heads, ``C`` chunks, ``L`` tokens of a chunk, ``N`` state, ``P`` values of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.operators.chunked import CHUNK
from archtool.operators.recurrence import steps

if TYPE_CHECKING:
    from torch import Tensor


def dual_scan(
    c_BHTN: Tensor, b_BHTN: Tensor, x_BHTP: Tensor, log_decay_BHT: Tensor, state_BHNP: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (B, H, T, P) and the last state; ``log_decay_BHT`` is each token's l, at most 0."""
    import torch

    if torch.compiler.is_exporting():
        return recurrence(c_BHTN, b_BHTN, x_BHTP, log_decay_BHT, state_BHNP)
    tokens = c_BHTN.shape[2]
    made, whole = [], tokens - tokens % CHUNK
    for start, stop, length in ((0, whole, CHUNK), (whole, tokens, tokens - whole)):
        if stop > start:
            c, b, x, decay = (t[:, :, start:stop] for t in (c_BHTN, b_BHTN, x_BHTP, log_decay_BHT))
            out_BHTP, state_BHNP = _chunks(c, b, x, decay, state_BHNP, length)
            made.append(out_BHTP)
    return torch.cat(made, 2) if len(made) > 1 else made[0], state_BHNP


def _chunks(
    c_BHTN: Tensor, b_BHTN: Tensor, x_BHTP: Tensor, log_decay_BHT: Tensor, state_BHNP: Tensor, length: int
) -> tuple[Tensor, Tensor]:
    import torch

    c, b, x, decay_BHCL = (t.unflatten(2, (-1, length)) for t in (c_BHTN, b_BHTN, x_BHTP, log_decay_BHT))
    sum_BHCL = decay_BHCL.cumsum(3)
    earlier_LL = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    apart = (sum_BHCL[..., :, None] - sum_BHCL[..., None, :]).masked_fill(~earlier_LL, -torch.inf)
    near_BHCLP = (c @ b.transpose(3, 4) * apart.exp()) @ x
    left_BHCL = (sum_BHCL[..., -1:] - sum_BHCL).exp()
    added_BHCNP = (b * left_BHCL[..., None]).transpose(3, 4) @ x
    forget_BHC = sum_BHCL[..., -1].exp()

    def step(carry: tuple[Tensor], token: tuple[Tensor, ...]) -> tuple[tuple[Tensor], Tensor]:
        forget_BH, added_BHNP = token
        return (forget_BH[..., None, None] * carry[0] + added_BHNP,), carry[0]

    (state_BHNP,), before_BCHNP = steps(step, (state_BHNP,), (forget_BHC.transpose(1, 2), added_BHCNP.transpose(1, 2)))
    far_BHCLP = (c * sum_BHCL.exp()[..., None]) @ before_BCHNP.transpose(1, 2)
    return (near_BHCLP + far_BHCLP).flatten(2, 3), state_BHNP


def recurrence(
    c_BHTN: Tensor, b_BHTN: Tensor, x_BHTP: Tensor, log_decay_BHT: Tensor, state_BHNP: Tensor
) -> tuple[Tensor, Tensor]:
    """The same, one token after the other; as a loop of an exported graph."""

    def step(carry: tuple[Tensor], token: tuple[Tensor, ...]) -> tuple[tuple[Tensor], Tensor]:
        c_BHN, b_BHN, x_BHP, decay_BH = token
        state_BHNP = decay_BH.exp()[..., None, None] * carry[0] + b_BHN[..., None] * x_BHP[..., None, :]
        return (state_BHNP,), (c_BHN[..., None] * state_BHNP).sum(2)

    streams = tuple(t.transpose(1, 2) for t in (c_BHTN, b_BHTN, x_BHTP, log_decay_BHT))
    (state_BHNP,), out_BTHP = steps(step, (state_BHNP,), streams)
    return out_BTHP.transpose(1, 2), state_BHNP
