"""The selective scan: ``h_t = exp(Δ_t A) h_{t-1} + Δ_t x_t B_t``, ``y_t = C_t · h_t`` (Gu and Dao 2023, equation 2).

The sequence is cut into chunks of bounded size. In a chunk the states are computed one from the other where the
cache holds them (CPU), or in lanes side by side of which each then inherits the state that the one before left
(accelerators, compiled graphs). Nothing is divided by a decay, so that no decay is too strong. Training keeps what
enters a chunk and computes its states again for the gradient.

Shapes: ``B`` batch, ``T`` tokens, ``I`` inner channels, ``N`` state per channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archtool.operators.recurrence import steps

if TYPE_CHECKING:
    from torch import Tensor

CACHED = 2**19
"""Entries of a chunk's states that stay in a core's cache."""
LAUNCHED = 2**24
"""Entries of a chunk's states where an operation costs a launch and memory is fast."""
LANES = 16


def selective_scan(
    x_BTI: Tensor, step_BTI: Tensor, decay_IN: Tensor, b_BTN: Tensor, c_BTN: Tensor, h_BIN: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, I) and the last state (B, I, N); ``decay_IN`` is A, ``step_BTI`` Δ, ``h_BIN`` the state before."""
    import torch
    from torch.utils.checkpoint import checkpoint

    batch, tokens, inner = x_BTI.shape
    if torch.compiler.is_exporting():
        return _exported(x_BTI, step_BTI, decay_IN, b_BTN, c_BTN, h_BIN)
    cached = x_BTI.device.type == "cpu" and not torch.compiler.is_compiling()
    length = max(1, (CACHED if cached else LAUNCHED) // (batch * inner * decay_IN.shape[1]))
    streams = (x_BTI, step_BTI, b_BTN, c_BTN)
    if tokens <= length:
        return _chunk(streams, decay_IN, h_BIN, cached)
    made = []
    for chunk in zip(*(s.split(length, 1) for s in streams), strict=True):
        if torch.is_grad_enabled():
            y_BTI, h_BIN = checkpoint(
                _chunk, chunk, decay_IN, h_BIN, cached, use_reentrant=False, preserve_rng_state=False
            )
        else:
            y_BTI, h_BIN = _chunk(chunk, decay_IN, h_BIN, cached)
        made.append(y_BTI)
    return torch.cat(made, 1), h_BIN


def _chunk(streams: tuple[Tensor, ...], decay_IN: Tensor, h_BIN: Tensor, cached: bool) -> tuple[Tensor, Tensor]:
    x_BTI, step_BTI, b_BTN, c_BTN = streams
    forget_BTIN = (step_BTI[..., None] * decay_IN).exp_()
    added_BTIN = (step_BTI * x_BTI)[..., None] * b_BTN[:, :, None]
    lanes = 1 if cached or x_BTI.shape[1] < 2 * LANES else LANES
    h_BTIN = states(forget_BTIN, added_BTIN, h_BIN, lanes)
    return (h_BTIN @ c_BTN[..., None]).squeeze(-1), h_BTIN[:, -1]


def states(forget_BTIN: Tensor, added_BTIN: Tensor, h_BIN: Tensor, lanes: int = 1) -> Tensor:
    """All states (B, T, I, N) of ``h_t = forget_t h_{t-1} + added_t``; ``lanes`` pieces run side by side."""
    import torch

    if lanes == 1:
        made = []
        for forget_BIN, added_BIN in zip(forget_BTIN.unbind(1), added_BTIN.unbind(1), strict=True):
            h_BIN = torch.addcmul(added_BIN, forget_BIN, h_BIN)
            made.append(h_BIN)
        return torch.stack(made, 1)
    rest = forget_BTIN.shape[1] % lanes
    if rest:
        whole_BTIN = states(forget_BTIN[:, :-rest], added_BTIN[:, :-rest], h_BIN, lanes)
        last_BTIN = states(forget_BTIN[:, -rest:], added_BTIN[:, -rest:], whole_BTIN[:, -1])
        return torch.cat((whole_BTIN, last_BTIN), 1)
    forget_BLTIN, added_BLTIN = (t.unflatten(1, (lanes, -1)) for t in (forget_BTIN, added_BTIN))
    none = torch.zeros_like(h_BIN).repeat_interleave(lanes, 0)
    alone_BLTIN = states(forget_BLTIN.flatten(0, 1), added_BLTIN.flatten(0, 1), none).unflatten(0, (-1, lanes))
    left_BLTIN = forget_BLTIN.cumprod(2)
    ends_BLIN = states(left_BLTIN[:, :, -1], alone_BLTIN[:, :, -1], h_BIN)
    before_BLIN = torch.cat((h_BIN[:, None], ends_BLIN[:, :-1]), 1)
    return torch.addcmul(alone_BLTIN, left_BLTIN, before_BLIN[:, :, None]).flatten(1, 2)


def _exported(
    x_BTI: Tensor, step_BTI: Tensor, decay_IN: Tensor, b_BTN: Tensor, c_BTN: Tensor, h_BIN: Tensor
) -> tuple[Tensor, Tensor]:
    """One token after the other, as a loop of the graph."""

    def step(carry: tuple[Tensor], token: tuple[Tensor, ...]) -> tuple[tuple[Tensor], Tensor]:
        x_BI, step_BI, b_BN, c_BN = token
        forget_BIN = (step_BI[..., None] * decay_IN).exp()
        h_BIN = forget_BIN * carry[0] + (step_BI * x_BI)[..., None] * b_BN[:, None]
        return (h_BIN,), (h_BIN * c_BN[:, None]).sum(-1)

    (h_BIN,), y_BTI = steps(step, (h_BIN,), (x_BTI, step_BTI, b_BTN, c_BTN))
    return y_BTI, h_BIN
