"""A model and its parent side by side, and what their latencies mean: baseline, speed-up, share of the peak.

The baseline is the fastest runtime that computes the parent in fp32, not eager PyTorch, which flatters
everything that is compared with it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from archtool.errors import UsageError
from archtool.ir.cost import layer_costs
from archtool.measure.inputs import example_inputs, input_length
from archtool.measure.latency import LatencyResult, measure_grid
from archtool.measure.machine import Peak
from archtool.measure.timing import TimingPlan
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture
    from archtool.model.build import Model
    from archtool.model.checkpoint import Checkpoint

GRAPH_RUNTIMES = ("openvino", "onnxruntime")
"""Runtimes that execute an exported graph; the first that is installed serves as fp32 baseline."""


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        runtimes / batches / lengths: the grid; images have their own length.
        threads / dtype: of the arithmetic.
        timing: how long each point takes.
        seed: of the inputs and intervals.
    """

    runtimes: tuple[str, ...] = ("onnxruntime",)
    batches: tuple[int, ...] = (1,)
    lengths: tuple[int, ...] = (64,)
    threads: int = 1
    dtype: str = "fp32"
    timing: TimingPlan = field(default_factory=TimingPlan)
    seed: int = 0


@dataclass(frozen=True)
class LatencyRow:
    """One model at one point, for tables and reports.

    Attributes:
        model / runtime / runtime_version: what ran where.
        precision: what the arithmetic was done in, and how encoded weights were treated.
        threads / batch / length: the point.
        median_ms / p95_ms / rounds: over the timed calls.
        stable: whether the warm-up settled.
        ratio / ratio_low / ratio_high: this median over the parent's in the same runtime, with its 95 % interval.
        macs: multiply-adds of the call (the whole batch).
        peak_share: part of the machine's measured fp32 peak; None for other precisions.
    """

    model: str
    runtime: str
    runtime_version: str
    precision: str
    threads: int
    batch: int
    length: int
    median_ms: float
    p95_ms: float
    rounds: int
    stable: bool
    ratio: float
    ratio_low: float
    ratio_high: float
    macs: int
    peak_share: float | None

    @property
    def text(self) -> str:
        """One line for a person."""
        share = "" if self.peak_share is None else f", {100 * self.peak_share:.0f} % of peak"
        shape = f"batch {self.batch} x length {self.length}, {self.threads} threads"
        unstable = "" if self.stable else ", warm-up never settled"
        return (
            f"{self.model} in {self.runtime} {self.runtime_version} ({self.precision}), {shape}: "
            f"median {self.median_ms:.3f} ms, p95 {self.p95_ms:.3f} ms{share}{unstable}"
        )


def bench_models(models: Mapping[str, Checkpoint], plan: BenchPlan, progress: Progress = SILENT) -> list[LatencyResult]:
    """Measure checkpoints in turns, runtime by runtime; the first is what the others are compared with.

    Raises:
        UsageError: the models do not take the same inputs.
        InputError: a model cannot be exported, or has fewer positions than a length.
    """
    arch = _common(models)
    lengths = tuple(dict.fromkeys(input_length(arch, length) for length in plan.lengths))

    def make_inputs(batch: int, length: int) -> Mapping[str, Tensor]:
        return example_inputs(arch, batch, length, plan.seed)

    results: list[LatencyResult] = []
    for runtime in plan.runtimes:
        results += measure_grid(
            {name: runnable(checkpoint, runtime) for name, checkpoint in models.items()},
            make_inputs, runtime=runtime, batches=plan.batches, lengths=lengths, threads=plan.threads,
            dtype=plan.dtype, plan=plan.timing, seed=plan.seed, progress=progress,
        )  # fmt: skip
    return results


def _common(models: Mapping[str, Checkpoint]) -> Architecture:
    """The architecture whose inputs every model takes: the one with the fewest ids and positions."""
    archs = [checkpoint.architecture for checkpoint in models.values()]
    images = {tuple(a.fact.get(key) for key in ("image_height", "image_width")) for a in archs}
    if len({a.inputs for a in archs}) > 1 or len(images) > 1:
        raise UsageError(f"{', '.join(models)} do not take the same inputs, so they cannot be compared")
    return min(archs, key=lambda a: (a.size.get("vocab", 0), a.fact.get("max_positions", 0)))


def runnable(checkpoint: Checkpoint, runtime: str) -> Model:
    """The module that a runtime gets; graphs get encoded weights decoded (see `precision_note`)."""
    if checkpoint.plan.entries and runtime in GRAPH_RUNTIMES:
        return decoded(checkpoint).module()
    return checkpoint.module()


def decoded(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with every tensor dense."""
    from archtool.ir.encodings import EncodingPlan
    from archtool.ir.table import stored

    weights = {name: checkpoint.tensor(name) for name in stored(checkpoint.architecture)}
    return replace(checkpoint, plan=EncodingPlan(), weights=weights)


def precision_note(checkpoint: Checkpoint, runtime: str) -> str:
    """What became of encoded weights: graphs hold them decoded, torch decodes them at every call."""
    bits = sorted({f"{getattr(encoding, 'bits', encoding.kind)}" for _, encoding in checkpoint.plan.entries})
    if not bits:
        return ""
    when = "before export" if runtime in GRAPH_RUNTIMES else "at every call"
    return f", {'/'.join(bits)}-bit weights decoded {when}"


def latency_rows(
    results: Sequence[LatencyResult], models: Mapping[str, Checkpoint], peak: Peak | None = None
) -> list[LatencyRow]:
    """One row per model and point."""
    return [_row(result, name, models[name], peak) for result in results for name in _names(result)]


def _names(result: LatencyResult) -> list[str]:
    return [timing.name for timing in result.timings]


def _row(result: LatencyResult, name: str, checkpoint: Checkpoint, peak: Peak | None) -> LatencyRow:
    timing, arch = result.get(name), checkpoint.architecture
    macs = result.batch * sum(row.macs for row in layer_costs(arch, result.length))
    comparable = peak is not None and timing.precision == "fp32"
    return LatencyRow(
        model=name,
        runtime=result.runtime,
        runtime_version=result.runtime_version,
        precision=timing.precision + precision_note(checkpoint, result.runtime),
        threads=result.threads,
        batch=result.batch,
        length=result.length,
        median_ms=timing.median_ms,
        p95_ms=timing.p95_ms,
        rounds=result.n,
        stable=timing.stable,
        ratio=timing.ratio.value,
        ratio_low=timing.ratio.low,
        ratio_high=timing.ratio.high,
        macs=macs,
        peak_share=peak.compute_share(macs, timing.median_ms) if comparable and peak else None,
    )


def baseline_runtime() -> str:
    """The installed graph runtime that serves as fp32 baseline."""
    return next((name for name in GRAPH_RUNTIMES if importlib.util.find_spec(name)), "torch")


def missing_baseline(plan: BenchPlan) -> BenchPlan | None:
    """What must be measured besides ``plan`` so that it holds a fair fp32 baseline; None where it does."""
    wanted = baseline_runtime()
    if plan.dtype == "fp32" and any(runtime in (wanted, *GRAPH_RUNTIMES) for runtime in plan.runtimes):
        return None
    return replace(plan, runtimes=(wanted,), batches=plan.batches[:1], lengths=plan.lengths[:1], dtype="fp32")


def fastest_fp32(rows: Sequence[LatencyRow], model: str) -> LatencyRow:
    """The fastest row of ``model`` in fp32 at the first row's batch and length.

    Raises:
        UsageError: there is none.
    """
    point = (rows[0].batch, rows[0].length)
    own = [row for row in rows if row.model == model and (row.batch, row.length) == point]
    found = [row for row in own if row.precision.startswith("fp32")]
    if not found:
        raise UsageError(f"{model} was not measured in fp32, so there is no baseline")
    return min(found, key=lambda row: row.median_ms)


def to_records(rows: Sequence[LatencyRow]) -> list[dict[str, object]]:
    """Rows as JSON values."""
    return [asdict(row) for row in rows]
