"""What recurrent mixers share: steps along the tokens that also export with any length, and masks of real tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Carry = tuple[Any, ...]
Step = Callable[[Any, Any], tuple[Carry, Any]]


def steps(step: Step, carry: Carry, streams: Sequence[Tensor]) -> tuple[Carry, Tensor]:
    """Apply ``step`` (carry, token → carry, out) to the tokens of ``streams`` (B, T, ...) in turn.

    Returns the last carry and what every token gave (B, T, ...).

    An exported graph gets a loop over as many tokens as come, so that its length stays free.
    """
    import torch

    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        carry, outs = scan(_copied(step), carry, tuple(s.transpose(0, 1) for s in streams))
        return carry, outs.transpose(0, 1)
    made = []
    for token in zip(*(s.unbind(1) for s in streams), strict=True):
        carry, out = step(carry, token)
        made.append(out)
    return carry, torch.stack(made, 1)


def _copied(step: Step) -> Step:
    """The step with outputs that are no views of what it was given, as the loop operator demands."""

    def apart(carry: Any, token: Any) -> tuple[Carry, Any]:
        after, out = step(carry, token)
        return tuple(value.clone() for value in after), out.clone()

    return apart


def real_tokens(ctx: Any, x_BTD: Tensor) -> Tensor | None:
    """1 (B, T, 1) where a token of this pass is real, 0 at padding, in the stream's dtype; None without a mask."""
    padding = ctx.padding(ctx.root)
    batch, tokens = x_BTD.shape[:2]
    if padding is None or padding.shape[0] != batch or padding.shape[1] != ctx.past + tokens:
        return None
    return padding[:, ctx.past :, None].to(x_BTD.dtype)
