"""The latency of one operator, from two graphs that hold N and 2N copies of it.

``t(N) = overhead + N · latency``, so ``latency = (t(2N) - t(N)) / N``; both graphs take turns, and the
median is taken over the differences of each round. N grows until the difference stands out from the noise.

Each time is taken from the quietest of `WINDOWS` windows (the one with the lowest medians): other programs
slow a whole stretch of time down, and operators measured in different stretches are added up.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archtool.errors import MismatchError, ResourceError
from archtool.measure.pinning import pinned
from archtool.measure.repeat import build_copies, can_chain
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

    def time(
        self,
        modules: "Sequence[nn.Module]",
        inputs: "Mapping[str, Tensor]",
        dynamic: Mapping[str, Mapping[int, str]],
    ) -> tuple[tuple[float, ...], ...]:
        """Milliseconds of each round, per module, measured in turns; the quietest window."""
        sessions: list[Session] = []
        try:
            sessions.extend(self.prepare(module, inputs, dynamic) for module in modules)
            with pinned(self.threads):
                calls = [session.bind(inputs) for session in sessions]
                windows = [time_interleaved(calls, self.plan, self.clock).rounds_ms for _ in range(WINDOWS)]
            return min(windows, key=lambda rounds_ms: sum(map(compute_median, rounds_ms)))
        finally:
            for session in sessions:
                session.close()


def measure_slope(
    bench: Bench,
    make_module: "Callable[[], nn.Module]",
    inputs: "Mapping[str, Tensor]",
    dynamic: Mapping[str, Mapping[int, str]],
) -> Slope:
    """Measure one operator.

    Raises:
        ResourceError: even with `MAX_COPIES` the latency cannot be told from zero on this machine.
    """
    chained, copies = can_chain(make_module, inputs, 2 * MAX_COPIES), FIRST_COPIES
    while True:
        pair = [build_copies(make_module, inputs, n, chained) for n in (copies, 2 * copies)]
        fewer_ms, more_ms = bench.time(pair, inputs, dynamic)
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
