"""The latency of one operator, from two graphs that hold N and 2N copies of it.

``t(N) = overhead + N · latency``, so ``latency = (t(2N) - t(N)) / N``; both graphs take turns, and the
median is taken over the differences of each round. N grows until the difference stands out from the noise.

Other programs slow a whole stretch of time down, and operators measured in different stretches are added up.
So a fixed *reference* network takes turns with whatever is timed: windows are repeated until it is as fast as
it was at its best, the quietest window counts, and its times are brought to the reference's best speed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from archtool.errors import MismatchError, ResourceError
from archtool.measure.pinning import pinned
from archtool.measure.repeat import build_reference
from archtool.measure.statistics import compute_median
from archtool.measure.timing import Clock, TimingPlan, time_interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Runtime, Session

FIRST_COPIES = 2
COPY_GROWTH = 4
MAX_COPIES = 32
WINDOWS = 3
"""Windows at least; up to `MAX_WINDOWS` until the reference is within `QUIET` of its best."""
MAX_WINDOWS = 9
QUIET = 1.03
CLEAR_MS = 0.2
"""A difference of at least this long is taken at once; below it, more copies are tried."""

_SEED, _RESAMPLES = 0, 1000


@dataclass(frozen=True)
class Slope:
    """Latency per copy, with a 95 % bootstrap interval.

    Args:
        median_ms: latency of one copy.
        low_ms: lower end.
        high_ms: upper end.
        rounds: rounds measured.
        copies: N.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    copies: int


@dataclass(frozen=True)
class Bench:
    """Where and how operators are measured.

    Args:
        runtime: the runtime.
        threads: threads of the arithmetic.
        dtype: what to compute in.
        plan: how long each window is.
        clock: nanoseconds.
    """

    runtime: "Runtime"
    threads: int
    dtype: str
    plan: TimingPlan
    clock: Clock = time.perf_counter_ns

    def prepare(
        self, module: "nn.Module", inputs: "Mapping[str, Tensor]", dynamic: Mapping[str, Mapping[int, str]]
    ) -> "Session":
        """A session that really computes in the asked precision.

        Raises:
            MismatchError: it computes in another.
        """
        session = self.runtime.prepare(module, inputs, self.threads, self.dtype, dynamic)
        if session.precision != self.dtype:
            session.close()
            raise MismatchError(f"{self.runtime.name} computes in {session.precision}, not in {self.dtype}")
        return session

    @cached_property
    def _reference(self) -> "Callable[[], object]":
        import torch

        module, inputs = build_reference(), {"x": torch.ones(1, 64, 256)}
        return self.prepare(module, inputs, {"x": {0: "batch", 1: "length"}}).bind(inputs)

    def time_reference(self) -> float:
        """Milliseconds of the reference network at its best: the lowest median of `MAX_WINDOWS` windows."""
        with pinned(self.threads):
            windows = [time_interleaved([self._reference], self.plan, self.clock) for _ in range(MAX_WINDOWS)]
        return min(compute_median(window.rounds_ms[0]) for window in windows)

    def time(
        self,
        modules: "Sequence[nn.Module]",
        inputs: "Mapping[str, Tensor]",
        dynamic: Mapping[str, Mapping[int, str]],
        reference_ms: float,
    ) -> tuple[tuple[float, ...], ...]:
        """Milliseconds of each round, per module, in turns, at the speed where the reference takes ``reference_ms``."""
        sessions: list[Session] = []
        try:
            sessions.extend(self.prepare(module, inputs, dynamic) for module in modules)
            with pinned(self.threads):
                calls = [self._reference, *(session.bind(inputs) for session in sessions)]
                return self._quietest(calls, reference_ms)
        finally:
            for session in sessions:
                session.close()

    def _quietest(self, calls: "Sequence[Callable[[], object]]", reference_ms: float) -> tuple[tuple[float, ...], ...]:
        best: tuple[tuple[float, ...], ...] = ()
        slowdown = float("inf")
        for done in range(1, MAX_WINDOWS + 1):
            rounds_ms = time_interleaved(calls, self.plan, self.clock).rounds_ms
            if not best or _total(rounds_ms) < _total(best):
                best, slowdown = rounds_ms, compute_median(rounds_ms[0]) / reference_ms
            if done >= WINDOWS and slowdown <= QUIET:
                break
        return tuple(tuple(value / slowdown for value in series) for series in best[1:])


def _total(rounds_ms: "Sequence[Sequence[float]]") -> float:
    return sum(map(compute_median, rounds_ms))


def measure_slope(
    bench: Bench,
    build: "Callable[[int], nn.Module]",
    inputs: "Mapping[str, Tensor]",
    dynamic: Mapping[str, Mapping[int, str]],
    reference_ms: float,
    copies: int = FIRST_COPIES,
) -> Slope:
    """Measure one operator; ``build(n)`` gives ``n`` copies of it as one module, ``copies`` at first.

    Raises:
        ResourceError: even with `MAX_COPIES` the latency cannot be told from zero on this machine.
    """
    while True:
        pair = [build(n) for n in (copies, 2 * copies)]
        fewer_ms, more_ms = bench.time(pair, inputs, dynamic, reference_ms)
        slope = compute_slope(fewer_ms, more_ms, copies)
        if slope.low_ms > 0 and slope.median_ms * copies >= CLEAR_MS:
            return slope
        if copies >= MAX_COPIES:
            break
        copies *= COPY_GROWTH
    if slope.low_ms > 0:
        return slope
    raise ResourceError(
        f"{2 * copies} copies are not measurably slower than {copies} ({slope.median_ms:.6f} ms each)",
        hint="the machine is too busy, or the operator costs nothing; measure longer",
    )


def compute_slope(fewer_ms: "Sequence[float]", more_ms: "Sequence[float]", copies: int) -> Slope:
    """The median difference of rounds over ``copies``, with the interval of that median."""
    import numpy as np

    difference_N = (np.asarray(more_ms) - np.asarray(fewer_ms)) / copies
    generator = np.random.default_rng(_SEED)
    index_SN = generator.integers(len(difference_N), size=(_RESAMPLES, len(difference_N)))
    low, high = np.quantile(np.median(difference_N[index_SN], axis=1), [0.025, 0.975])
    return Slope(float(np.median(difference_N)), float(low), float(high), len(difference_N), copies)
