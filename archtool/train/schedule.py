"""The learning rate over a run: linear warm-up, then cosine, linear or no decay (Loshchilov & Hutter 2017), or ``wsd``:
a stable rate that falls in a straight line over the last fifth (Hu et al. 2024, warm-up-stable-decay).

A pure function of how far the run is, so that a resumed run and one limited by time need no state. With progress
``step / steps`` its values are those of transformers' ``get_*_schedule_with_warmup``.
"""

import math

from archtool.train.settings import Shape

DECAY = 0.2
"""The share of a run in which ``wsd`` decays."""


def lr_factor(progress: float, warmup: float, shape: Shape) -> float:
    """The share of the peak learning rate at ``progress`` (0..1) of a run whose first ``warmup`` share warms up."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    if shape == "constant":
        return 1.0
    if shape == "wsd":
        return min(1.0, (1 - progress) / DECAY)
    decayed = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return 1 - decayed if shape == "linear" else 0.5 * (1 + math.cos(math.pi * decayed))


def run_progress(step: int, steps: int | None, elapsed_s: float, limit_s: float | None) -> float:
    """How far a run is in its step number ``step`` (from 0), by steps or by time, whichever is further.

    Counted in the middle of things, so that neither the first nor the last step has a rate of zero.
    """
    by_steps = (step + 1) / (steps + 1) if steps is not None else 0.0
    by_time = elapsed_s / limit_s if limit_s is not None else 0.0
    return max(by_steps, by_time)
