"""Timing several calls fairly: warm each until it is stable, then take turns.

Calls take turns in the order A B … then … B A (ABBA), so that a machine that slows down or speeds up hurts
all of them alike. Nothing here knows what is called; the clock is an argument.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archtool.errors import UsageError
from archtool.measure.pinning import no_garbage_collection
from archtool.measure.statistics import compute_median

Clock = Callable[[], int]


@dataclass(frozen=True)
class TimingPlan:
    """How long to measure.

    Args:
        min_rounds: every call is timed at least so often.
        min_seconds: rounds go on for at least this long.
        max_rounds: and end here.
        warmup_window: warm-up ends when two windows of this many calls have medians that agree ...
        warmup_tolerance: ... to this relative difference.
        warmup_max: warm-up ends unstable after this many calls.
    """

    min_rounds: int = 20
    min_seconds: float = 1.0
    max_rounds: int = 2000
    warmup_window: int = 5
    warmup_tolerance: float = 0.05
    warmup_max: int = 60

    def __post_init__(self) -> None:
        if not 1 <= self.min_rounds <= self.max_rounds or self.warmup_window < 1:
            raise UsageError(f"{self} needs 1 <= min_rounds <= max_rounds and warmup_window >= 1")


@dataclass(frozen=True)
class Samples:
    """What was timed.

    Args:
        rounds_ms: one list per call, sample i of each from round i.
        warmups: calls made before, per call.
        stable: per call, whether the warm-up settled.
    """

    rounds_ms: tuple[tuple[float, ...], ...]
    warmups: tuple[int, ...]
    stable: tuple[bool, ...]


def time_interleaved(
    calls: Sequence[Callable[[], object]], plan: TimingPlan, clock: Clock = time.perf_counter_ns
) -> Samples:
    """Time ``calls`` in turns.

    Args:
        calls: what to time; at least one.
        plan: how long.
        clock: nanoseconds.
    """
    if not calls:
        raise UsageError("nothing to time")
    with no_garbage_collection():
        warm = [_warm_up(call, plan, clock) for call in calls]
        rounds_ms = _take_turns(calls, plan, clock)
    return Samples(
        tuple(tuple(series) for series in rounds_ms),
        tuple(count for count, _ in warm),
        tuple(stable for _, stable in warm),
    )


def _take_turns(calls: Sequence[Callable[[], object]], plan: TimingPlan, clock: Clock) -> list[list[float]]:
    rounds_ms: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    start = clock()
    for done in range(1, plan.max_rounds + 1):
        for index in order:
            rounds_ms[index].append(_time_ms(calls[index], clock))
        order.reverse()
        if done >= plan.min_rounds and (clock() - start) / 1e9 >= plan.min_seconds:
            break
    return rounds_ms


def _warm_up(call: Callable[[], object], plan: TimingPlan, clock: Clock) -> tuple[int, bool]:
    """Calls made, and whether the last two windows agree."""
    window, seen_ms = plan.warmup_window, list[float]()
    while len(seen_ms) < plan.warmup_max:
        seen_ms.append(_time_ms(call, clock))
        if len(seen_ms) >= 2 * window:
            before, after = compute_median(seen_ms[-2 * window : -window]), compute_median(seen_ms[-window:])
            if abs(after - before) <= plan.warmup_tolerance * before:
                return len(seen_ms), True
    return len(seen_ms), False


def _time_ms(call: Callable[[], object], clock: Clock) -> float:
    start = clock()
    call()
    return (clock() - start) / 1e6
