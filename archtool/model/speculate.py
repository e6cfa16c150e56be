"""Speculative decoding: a small model drafts tokens, a large one judges them all in one pass.

Leviathan et al. 2023 and Chen et al. 2023: a token x that the draft drew with probability q(x) is taken with
probability min(1, p(x) / q(x)), where p is the target's; after the first that is not, one is drawn from what p has more
than q. The text has then exactly the target's distribution, whatever the draft. Greedy decoding is the same with all
probability on the most probable token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archtool.errors import UsageError
from archtool.model.context import State, shorten
from archtool.model.generate import turning_lengths


@dataclass(frozen=True)
class Drafted:
    """A continued text and what it took.

    Attributes:
        ids_BT: the prompt and its continuation.
        new: tokens of the continuation.
        calls: passes of the target, the one over the prompt included.
        drafted: tokens that the draft proposed; ``taken``: those that the target took.
    """

    ids_BT: Tensor
    new: int
    calls: int
    drafted: int
    taken: int


def overlap(p_V: Tensor, q_V: Tensor) -> Tensor:
    """How probably a drafted token is taken: the sum of min(p, q), which is 1 less the total variation (last axis)."""
    return torch.minimum(p_V, q_V).sum(-1)


def residual(p_V: Tensor, q_V: Tensor) -> Tensor:
    """The distribution after a refusal, max(0, p - q) normalised; p itself where rounding leaves nothing."""
    more_V = (p_V - q_V).clamp(min=0)
    total = more_V.sum()
    return more_V / total if total > 0 else p_V


def judge(
    drafted_K: Tensor, p_JV: Tensor, q_KV: Tensor, generator: torch.Generator | None = None
) -> tuple[int, Tensor]:
    """How many of the drafted tokens are taken, and the token (1,) after them.

    Args:
        p_JV: the target's distributions at the drafted tokens and after the last (J = K + 1).
        q_KV: the draft's, which the tokens were drawn from.
    """
    for i, token in enumerate(drafted_K.tolist()):
        chance = torch.rand((), generator=generator, device=p_JV.device)
        if chance >= p_JV[i, token] / q_KV[i, token]:
            return i, torch.multinomial(residual(p_JV[i], q_KV[i]), 1, generator=generator)
    return len(drafted_K), torch.multinomial(p_JV[-1], 1, generator=generator)


@torch.inference_mode()
def speculate(
    model: nn.Module,
    draft: nn.Module,
    ids_BT: Tensor,
    steps: int,
    *,
    draft_tokens: int = 4,
    temperature: float = 0.0,
    stop: int | None = None,
    generator: torch.Generator | None = None,
    given: Mapping[str, Tensor] | None = None,
) -> Drafted:
    """Continue one text as `generate` does with the model alone, with fewer passes of it.

    Greedily, the text is that of `generate`, up to ties that rounding decides; sampled, it has the same distribution
    and other draws. Keys and values of refused tokens are cut off. A recurrent state cannot go back: the state before
    the round is kept and the taken tokens run again, one pass more.

    Args:
        model: the target; its vocabulary is the draft's.
        ids_BT: one text (B = 1).
        draft_tokens: drafted per round, at most.
        temperature, stop, generator, given: as `generate` has them.
    """
    if ids_BT.shape[0] != 1 or draft_tokens < 1:
        what = f"{ids_BT.shape[0]} texts and {draft_tokens} drafted tokens: speculative decoding takes 1 and at least 1"
        raise UsageError(what, "continue texts one by one")
    target, drafter = (Reader(part, temperature, given or {}) for part in (model, draft))
    turns = turning_lengths(model) | turning_lengths(draft)
    begun, total, drafted, taken = ids_BT.shape[1], ids_BT.shape[1] + steps, 0, 0
    while ids_BT.shape[1] < total:
        length = ids_BT.shape[1]
        if length in turns:
            target.forget()
            drafter.forget()
        following = min((turn for turn in turns if turn > length), default=total + 1)
        count = min(draft_tokens, total - length - 1, following - 1 - length)
        longer_BT, q_KV = drafter.propose(ids_BT, count, generator)
        p_JV = target.after(longer_BT, length)
        right, next_1 = judge(longer_BT[0, length:], p_JV, q_KV, generator)
        ids_BT = torch.cat((longer_BT[:, : length + right], next_1[None]), dim=1)
        drafted, taken = drafted + count, taken + right
        target.back(length + right)
        drafter.back(length + right)
        if stop is not None and stop in (new := ids_BT[0, length:].tolist()):
            ids_BT = ids_BT[:, : length + new.index(stop) + 1]
            break
    return Drafted(ids_BT, ids_BT.shape[1] - begun, target.calls, drafted, taken)


class Reader:
    """A model with the state of the tokens that it has read, and how to go back."""

    def __init__(self, model: nn.Module, temperature: float, given: Mapping[str, Tensor]) -> None:
        self.model, self.temperature, self.given = model, temperature, given
        architecture: Any = model.architecture
        self.name: str = architecture.inputs[-1]
        self.state: State = {}
        self.before: State = {}
        self.calls = 0
        self.recurrent = False

    def read(self, ids_BT: Tensor) -> Tensor:
        """Read the tokens that are new; the distributions (T', V) after each of them."""
        fresh = ids_BT[:, self.state.get("length", 0) :]
        logits_TV = self.model(**self.given, **{self.name: fresh}, state=self.state)["logits"][0]
        self.calls += 1
        if self.temperature == 0.0:
            best_T = logits_TV.argmax(-1)
            return torch.nn.functional.one_hot(best_T, logits_TV.shape[-1]).float()
        return torch.softmax(logits_TV.float() / self.temperature, -1)

    def propose(self, ids_BT: Tensor, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The text with ``count`` tokens drawn, and the distributions (K, V) that they are from."""
        drawn: list[Tensor] = []
        for i in range(count):
            drawn.append(self.read(ids_BT)[-1])
            if i == 0:
                self.before = dict(self.state)
            ids_BT = torch.cat((ids_BT, torch.multinomial(drawn[-1], 1, generator=generator)[None]), dim=1)
        return ids_BT, torch.stack(drawn) if drawn else ids_BT.new_zeros(0, 0)

    def after(self, ids_BT: Tensor, length: int) -> Tensor:
        """The distributions after the first ``length`` tokens and after each later one."""
        if self.recurrent and self.state.get("length", 0) < length - 1:
            self.read(ids_BT[:, : length - 1])
        self.before = dict(self.state)
        return self.read(ids_BT)[-(ids_BT.shape[1] - length + 1) :]

    def back(self, length: int) -> None:
        """Forget the tokens after the first ``length``, or else all of this round."""
        if not shorten(self.state, length):
            self.state, self.recurrent = dict(self.before), True

    def forget(self) -> None:
        """Forget everything."""
        self.state = {}
