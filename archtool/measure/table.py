"""The per-operator latency table of this machine, and whole models predicted from it.

A model's predicted latency is the sum over its operators, each interpolated between measured sizes, plus the
runtime's overhead per call, unless one of the operators was measured as a whole call, which holds it already.
`LatencyTable.validate` says how far such sums are from whole models.

All entries of a table are stated at one speed of the machine: that of its reference network (see
`archtool.measure.slope`), which is an entry itself. With one thread that computes in the calling thread, the
thread's CPU time is taken, which on an idle machine is the latency and does not count other programs' turns.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.measure.interpolate import interpolate
from archtool.measure.machine import machine
from archtool.measure.repeat import build_copies, build_identity, can_chain
from archtool.measure.runtimes import DEFAULT_RUNTIME, get_runtime
from archtool.measure.slope import FIRST_COPIES, MAX_COPIES, Bench, measure_slope
from archtool.measure.statistics import compute_median, compute_p95
from archtool.measure.store import Entry, LatencyStore, Scope, Sizes
from archtool.measure.timing import TimingPlan
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Runtime

OVERHEAD = "overhead"
"""The signature under which the runtime's overhead per call is kept."""

REFERENCE = "reference"
"""The signature under which the latency of the reference network is kept."""

CORRECTION = "correction "
"""Before the signature of a whole-call operator: the ratio of measured to summed latency of models around it."""

Dynamic = Mapping[str, Mapping[int, str]]
"""Input name → {axis: axis name} of the axes that vary in an exported graph."""

Ops = Iterable[tuple[str, Mapping[str, int]]]
"""A model as its operators: signature and sizes, once per call."""


@dataclass(frozen=True)
class OpCase:
    """An operator at one size, ready to be built.

    Args:
        signature: names the operator and all of its settings that are not sizes.
        sizes: axis → size.
        module: builds it with fresh weights; takes ``inputs`` by keyword, returns a tensor or dict.
        inputs: makes its inputs; the first is the one that copies hand on.
        dynamic: axes that vary in an exported graph; default: see `guess_dynamic`.
        copies: builds several in a row as one module; default: fresh modules, fed by each other if they can be.
        first_copies: how many copies the smaller graph of the slope has at first.
        whole: measure one call, overhead included, instead of the slope over copies.
    """

    signature: str
    sizes: Mapping[str, int]
    module: "Callable[[], nn.Module]"
    inputs: "Callable[[], Mapping[str, Tensor]]"
    dynamic: Dynamic | None = None
    copies: "Callable[[int], nn.Module] | None" = None
    first_copies: int = FIRST_COPIES
    whole: bool = False


@dataclass(frozen=True)
class ModelCase:
    """A whole model, to check predictions with: how to build it, its inputs and operators."""

    name: str
    module: "Callable[[], nn.Module]"
    inputs: "Mapping[str, Tensor]"
    ops: Sequence[tuple[str, Mapping[str, int]]]


@dataclass(frozen=True)
class PredictionRow:
    """One model: predicted and measured median, and the signed error in percent of the measured."""

    name: str
    predicted_ms: float
    measured_ms: float
    error_pct: float


@dataclass(frozen=True)
class PredictionError:
    """Median and 95th percentile of the absolute errors, in percent, and the models behind them."""

    median_pct: float
    p95_pct: float
    rows: tuple[PredictionRow, ...]


class LatencyTable:
    """Latencies for one runtime, thread count, batch, length and precision on this machine.

    Entries that the store holds are read once, when the table is made; later ones are those it measures.

    Args:
        runtime: a registered runtime's name.
        threads: threads of the arithmetic.
        batch: samples per call.
        length: tokens, time steps or pixels a side.
        dtype: what to compute in.
        store: where entries are kept; default: the user's cache.
        plan: how long each of the windows is in which an operator is measured.
        engine: a runtime object in place of the named one.
    """

    def __init__(
        self,
        runtime: str = DEFAULT_RUNTIME,
        threads: int = 1,
        batch: int = 1,
        length: int = 64,
        *,
        dtype: str = "fp32",
        store: LatencyStore | None = None,
        plan: TimingPlan | None = None,
        engine: "Runtime | None" = None,
    ) -> None:
        engine = engine or get_runtime(runtime)
        self.scope = Scope(machine().id, engine.name, engine.version, threads, batch, length, dtype)
        clock = time.thread_time_ns if threads == 1 and engine.in_caller else time.perf_counter_ns
        self._bench = Bench(engine, threads, dtype, plan or TimingPlan(min_seconds=0.4), clock)
        self._store = store or LatencyStore()
        self._entries = {(entry.signature, entry.sizes): entry for entry in self._store.read(self.scope)}

    @property
    def entries(self) -> list[Entry]:
        """All entries, sorted by signature and sizes."""
        return sorted(self._entries.values())

    def hash(self) -> str:
        """SHA-256 over the scope and every entry: equal tables predict equal latencies."""
        record = [asdict(self.scope), [asdict(entry) for entry in self.entries]]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def measure(self, op: OpCase) -> Entry:
        """The entry of this operator, measured unless the table has it.

        Raises:
            InputError: the operator cannot be exported or compiled.
            ResourceError: it cannot be told from zero, or the store cannot be written.
        """
        key = (op.signature, _freeze(op.sizes))
        if key not in self._entries:
            inputs = op.inputs()
            dynamic = guess_dynamic(inputs) if op.dynamic is None else op.dynamic
            if op.whole:
                return self._measure_call(key, op.module(), inputs, dynamic)
            build = op.copies or _copies(op.module, inputs)
            reference_ms = self.measure_reference_ms()
            slope = measure_slope(self._bench, build, inputs, dynamic, reference_ms, op.first_copies)
            self._keep(Entry(*key, **asdict(slope)))
        return self._entries[key]

    def _measure_call(
        self, key: "tuple[str, Sizes]", module: "nn.Module", inputs: "Mapping[str, Tensor]", dynamic: Dynamic
    ) -> Entry:
        """The entry of one whole call; its ``copies`` are 0."""
        (rounds_ms,) = self._bench.time([module], inputs, dynamic, self.measure_reference_ms())
        median_ms, high_ms = compute_median(rounds_ms), compute_p95(rounds_ms)
        return self._keep(Entry(*key, median_ms, min(rounds_ms), high_ms, len(rounds_ms), 0))

    def _keep(self, entry: Entry) -> Entry:
        kept = self._entries[entry.signature, entry.sizes] = self._store.add(self.scope, entry)
        return kept

    def measure_reference_ms(self) -> float:
        """The latency of the reference network at its best, measured once and kept as an entry."""
        key: tuple[str, Sizes] = (REFERENCE, ())
        if key not in self._entries:
            best_ms = self._bench.time_reference()
            self._keep(Entry(*key, best_ms, best_ms, best_ms, 1, 0))
        return self._entries[key].median_ms

    def measure_overhead_ms(self) -> float:
        """The latency of a model that does nothing, measured once and kept as an entry."""
        import torch

        key: tuple[str, Sizes] = (OVERHEAD, ())
        if key not in self._entries:
            inputs = {"x": torch.zeros(self.scope.batch, self.scope.length, 1)}
            self._measure_call(key, build_identity(), inputs, guess_dynamic(inputs))
        return self._entries[key].median_ms

    def build(self, cases: Sequence[OpCase], progress: Progress = SILENT) -> int:
        """Measure the overhead and all cases that the table does not have; returns how many were new."""
        before = len(self._entries)
        with progress.phase(f"latency table on {self.scope.runtime}", len(cases) + 1) as phase:
            self.measure_overhead_ms()
            phase.advance()
            for case in cases:
                entry = self.measure(case)
                phase.advance(note=f"{entry.signature} {dict(entry.sizes)}: {entry.median_ms:.4f} ms")
        return len(self._entries) - before

    def calibrate(self, models: Sequence[ModelCase], progress: Progress = SILENT) -> float:
        """Measure a few whole models once, and keep the median ratio of measured to summed latency as a correction.

        Layers in a row do not disturb each other's caches as different layers do; what is left of that after
        summing is the same for all models around one whole-call operator, which every model must have.

        Raises:
            InputError: no models, or models without the same whole-call operator.
        """
        keys = {self._correction_key(model.ops) for model in models}
        if len(keys) != 1 or None in keys:
            raise InputError("calibration needs models with one and the same operator that is measured as a whole")
        (key,) = keys
        assert key is not None
        if key not in self._entries:
            error = self.validate(models, progress)
            ratios = [row.measured_ms / row.predicted_ms for row in error.rows]
            self._keep(Entry(*key, compute_median(ratios), min(ratios), max(ratios), len(ratios), 0))
        return self._entries[key].median_ms

    def _correction_key(self, ops: Ops) -> "tuple[str, Sizes] | None":
        calls = {entry.signature for entry in self._entries.values() if entry.copies == 0}
        return next(((CORRECTION + signature, ()) for signature, _ in ops if signature in calls), None)

    def predict(self, signature: str, sizes: Mapping[str, int]) -> float:
        """Latency of one operator in ms, interpolated between measured sizes.

        Raises:
            InputError: outside the measured sizes; the message names the axis and its range.
        """
        grid = {entry.sizes: entry.median_ms for entry in self.entries if entry.signature == signature}
        return interpolate(grid, sizes, signature)

    def predict_model(self, ops: Ops) -> float:
        """Latency of a whole model in ms: the sum over its operators, and the overhead where none holds it.

        Where `calibrate` measured models around the same whole-call operator, the sum is corrected by their ratio.

        Raises:
            InputError: the overhead was not measured, or an operator lies outside the grid.
        """
        ops = list(ops)
        total_ms = sum(self.predict(signature, sizes) for signature, sizes in ops)
        correction = self._correction_key(ops)
        if correction is not None:
            known = self._entries.get(correction)
            return total_ms * (known.median_ms if known else 1.0)
        overhead = self._entries.get((OVERHEAD, ()))
        if overhead is None:
            raise InputError("the table holds no overhead yet", hint="call build first")
        return overhead.median_ms + total_ms

    def validate(self, models: Sequence[ModelCase], progress: Progress = SILENT) -> PredictionError:
        """Measure whole models, at the table's reference speed, and compare with their predictions."""
        if not models:
            raise InputError("no model to check the latency table with")
        rows: list[PredictionRow] = []
        with progress.phase("checking the latency table", len(models)) as phase:
            for model in models:
                predicted_ms = self.predict_model(model.ops)
                dynamic, reference_ms = guess_dynamic(model.inputs), self.measure_reference_ms()
                (rounds_ms,) = self._bench.time([model.module()], model.inputs, dynamic, reference_ms)
                measured_ms = compute_median(rounds_ms)
                error_pct = 100 * (predicted_ms / measured_ms - 1)
                rows.append(PredictionRow(model.name, predicted_ms, measured_ms, error_pct))
                phase.advance(note=f"{model.name}: {error_pct:+.1f} %")
        errors_pct = [abs(row.error_pct) for row in rows]
        return PredictionError(compute_median(errors_pct), compute_p95(errors_pct), tuple(rows))


def _copies(module: "Callable[[], nn.Module]", inputs: "Mapping[str, Tensor]") -> "Callable[[int], nn.Module]":
    """Copies with weights of their own, chained where outputs can be inputs."""
    chained = can_chain(module, inputs, 2 * MAX_COPIES)
    return lambda count: build_copies(module, inputs, count, chained)


def guess_dynamic(inputs: "Mapping[str, Tensor]") -> dict[str, dict[int, str]]:
    """Axis 0 is the batch; axis 1 the length in (B, T) of integers and (B, T, D) of numbers."""
    has_length = {name: value.ndim == (3 if value.is_floating_point() else 2) for name, value in inputs.items()}
    return {name: {0: "batch", 1: "length"} if has_length[name] else {0: "batch"} for name in inputs}


def _freeze(sizes: Mapping[str, int]) -> Sizes:
    return tuple(sorted((axis, int(size)) for axis, size in sizes.items()))
