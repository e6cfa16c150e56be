"""Latency of models side by side, on the runtime that the user will run.

Every result carries its machine, runtime and version, real precision, threads, batch, length, the raw samples
and an interval for the ratio to the baseline (the first model).
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from archtool.errors import UsageError
from archtool.measure.machine import Machine, machine
from archtool.measure.pinning import pinned
from archtool.measure.runtimes import get_runtime
from archtool.measure.runtimes.base import Runtime, Session
from archtool.measure.statistics import Ratio, bootstrap_ratio, compute_median, compute_p95
from archtool.measure.timing import Clock, TimingPlan, time_interleaved
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Point:
    """Where on the grid: threads of the arithmetic, samples per call, and their length."""

    threads: int
    batch: int
    length: int


@dataclass(frozen=True)
class Timing:
    """One model's samples.

    Args:
        name: what the caller calls this model.
        precision: what it really ran in.
        settings: the runtime's settings.
        samples_ms: one latency per round, raw and in order.
        warmups: calls before the first sample.
        stable: whether the warm-up settled.
        ratio: this median over the baseline's (exactly 1 for the baseline).
    """

    name: str
    precision: str
    settings: dict[str, str]
    samples_ms: tuple[float, ...]
    warmups: int
    stable: bool
    ratio: Ratio

    @property
    def median_ms(self) -> float:
        """Median latency."""
        return compute_median(self.samples_ms)

    @property
    def p95_ms(self) -> float:
        """95th percentile of latency."""
        return compute_p95(self.samples_ms)


@dataclass(frozen=True)
class LatencyResult:
    """Latencies of models measured in turns; ``timings[0]`` is the baseline.

    Args:
        machine: where.
        runtime: name of the runtime.
        runtime_version: its version.
        threads: threads of the arithmetic.
        batch: samples per call.
        length: tokens, time steps or pixels a side per sample.
        seed: of the bootstrap.
        timings: one per model.
        order: how the models took turns.
    """

    machine: Machine
    runtime: str
    runtime_version: str
    threads: int
    batch: int
    length: int
    seed: int
    timings: tuple[Timing, ...]
    order: str = field(default="ABBA")

    @property
    def n(self) -> int:
        """Rounds measured."""
        return len(self.timings[0].samples_ms)

    def get(self, name: str) -> Timing:
        """The timing of this model.

        Raises:
            UsageError: it was not measured.
        """
        for timing in self.timings:
            if timing.name == name:
                return timing
        raise UsageError(f"{name} was not measured; {', '.join(t.name for t in self.timings)} were")

    def to_json(self) -> str:
        """As JSON, with medians and percentiles beside the raw samples."""
        record = asdict(self)
        for timing, item in zip(self.timings, record["timings"], strict=True):
            item["median_ms"], item["p95_ms"] = timing.median_ms, timing.p95_ms
        return json.dumps(record | {"n": self.n, "machine_id": self.machine.id})

    @classmethod
    def from_json(cls, text: str) -> "LatencyResult":
        """Read what `to_json` wrote."""
        record = json.loads(text)
        for key in ("n", "machine_id"):
            record.pop(key)
        timings = tuple(_read_timing(item) for item in record.pop("timings"))
        return cls(machine=Machine(**record.pop("machine")), timings=timings, **record)


def _read_timing(item: dict) -> Timing:
    known = {key: value for key, value in item.items() if key not in ("median_ms", "p95_ms")}
    known["samples_ms"] = tuple(known["samples_ms"])
    return Timing(**known | {"ratio": Ratio(**known["ratio"])})


def measure_sessions(
    sessions: Mapping[str, Session],
    inputs: "Mapping[str, Tensor]",
    runtime: Runtime,
    point: Point,
    *,
    plan: TimingPlan | None = None,
    seed: int = 0,
    cores: Collection[int] | None = None,
    clock: Clock = time.perf_counter_ns,
) -> LatencyResult:
    """Time prepared sessions in turns on the same inputs; the first is the baseline."""
    with pinned(point.threads, cores):
        calls = [session.bind(inputs) for session in sessions.values()]
        samples = time_interleaved(calls, plan or TimingPlan(), clock)
    baseline = samples.rounds_ms[0]
    timings = tuple(
        Timing(
            name,
            session.precision,
            dict(session.settings),
            samples.rounds_ms[i],
            samples.warmups[i],
            samples.stable[i],
            bootstrap_ratio(samples.rounds_ms[i], baseline, seed),
        )
        for i, (name, session) in enumerate(sessions.items())
    )
    shape = (point.threads, point.batch, point.length)
    return LatencyResult(machine(), runtime.name, runtime.version, *shape, seed, timings)


def measure_grid(
    models: "Mapping[str, nn.Module | Path]",
    make_inputs: "Callable[[int, int], Mapping[str, Tensor]]",
    *,
    runtime: str = "onnxruntime",
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] = (64,),
    threads: int = 1,
    dtype: str = "fp32",
    plan: TimingPlan | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[LatencyResult]:
    """Measure models in turns at every batch × length.

    Args:
        models: name → module or ONNX file; the first is the baseline.
        make_inputs: ``(batch, length)`` → inputs.
        runtime: a registered runtime's name.
        batches: batch sizes.
        lengths: lengths.
        threads: threads of the arithmetic.
        dtype: see `archtool.measure.runtimes.base.Runtime.prepare`.
        plan: how long to measure each point.
        seed: of the bootstrap.
        progress: one unit per point.

    Returns:
        One result per point, lengths varying fastest.
    """
    engine, points = get_runtime(runtime), [(batch, length) for batch in batches for length in lengths]
    if not models or not points:
        raise UsageError("latency needs at least one model, one batch and one length")
    results: list[LatencyResult] = []
    sessions: dict[str, Session] = {}
    try:
        with progress.phase(f"latency on {runtime}", len(points)) as phase:
            for batch, length in points:
                inputs = make_inputs(batch, length)
                if engine.per_shape or not sessions:
                    _close(sessions)
                    for name, model in models.items():
                        sessions[name] = engine.prepare(model, inputs, threads, dtype)
                point = Point(threads, batch, length)
                results.append(measure_sessions(sessions, inputs, engine, point, plan=plan, seed=seed))
                phase.advance(note=f"{results[-1].timings[-1].median_ms:.3f} ms")
    finally:
        _close(sessions)
    return results


def _close(sessions: dict[str, Session]) -> None:
    while sessions:
        sessions.popitem()[1].close()
