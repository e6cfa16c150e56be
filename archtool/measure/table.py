"""The per-operator latency table of this machine, and whole models predicted from it.

A model's predicted latency is the runtime's overhead per call plus the sum over its operators, each
interpolated between measured sizes. `LatencyTable.validate` says how far such sums are from whole models.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.measure.interpolate import interpolate
from archtool.measure.machine import machine
from archtool.measure.repeat import build_identity
from archtool.measure.runtimes import DEFAULT_RUNTIME, get_runtime
from archtool.measure.slope import Bench, measure_slope
from archtool.measure.statistics import compute_median, compute_p95
from archtool.measure.store import Entry, LatencyStore, Scope, Sizes
from archtool.measure.timing import TimingPlan
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Runtime

OVERHEAD = "overhead"
"""The signature under which the runtime's overhead per call is kept."""

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
    """

    signature: str
    sizes: Mapping[str, int]
    module: "Callable[[], nn.Module]"
    inputs: "Callable[[], Mapping[str, Tensor]]"
    dynamic: Mapping[str, Mapping[int, str]] | None = None


@dataclass(frozen=True)
class ModelCase:
    """A whole model, to check predictions with: its module, inputs and operators."""

    name: str
    module: "nn.Module"
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
        runtime: a name of `archtool.measure.runtimes.RUNTIMES`.
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
        self._bench = Bench(engine, threads, dtype, plan or TimingPlan(min_seconds=0.4))
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
            slope = measure_slope(self._bench, op.module, inputs, dynamic)
            self._entries[key] = self._store.add(self.scope, Entry(*key, **asdict(slope)))
        return self._entries[key]

    def measure_overhead_ms(self) -> float:
        """The latency of a model that does nothing, measured once and kept as an entry."""
        import torch

        key: tuple[str, Sizes] = (OVERHEAD, ())
        if key not in self._entries:
            inputs = {"x": torch.zeros(self.scope.batch, self.scope.length, 1)}
            (rounds_ms,) = self._bench.time([build_identity()], inputs, guess_dynamic(inputs))
            median_ms, high_ms = compute_median(rounds_ms), compute_p95(rounds_ms)
            entry = Entry(*key, median_ms, min(rounds_ms), high_ms, len(rounds_ms), 0)
            self._entries[key] = self._store.add(self.scope, entry)
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

    def predict(self, signature: str, sizes: Mapping[str, int]) -> float:
        """Latency of one operator in ms, interpolated between measured sizes.

        Raises:
            InputError: outside the measured sizes; the message names the axis and its range.
        """
        grid = {entry.sizes: entry.median_ms for entry in self.entries if entry.signature == signature}
        return interpolate(grid, sizes, signature)

    def predict_model(self, ops: Ops) -> float:
        """Latency of a whole model in ms: overhead plus the sum over its operators.

        Raises:
            InputError: the overhead was not measured, or an operator lies outside the grid.
        """
        overhead = self._entries.get((OVERHEAD, ()))
        if overhead is None:
            raise InputError("the table holds no overhead yet", hint="call build first")
        return overhead.median_ms + sum(self.predict(signature, sizes) for signature, sizes in ops)

    def validate(self, models: Sequence[ModelCase], progress: Progress = SILENT) -> PredictionError:
        """Measure whole models and compare with their predictions."""
        if not models:
            raise InputError("no model to check the latency table with")
        rows: list[PredictionRow] = []
        with progress.phase("checking the latency table", len(models)) as phase:
            for model in models:
                predicted_ms = self.predict_model(model.ops)
                (rounds_ms,) = self._bench.time([model.module], model.inputs, guess_dynamic(model.inputs))
                measured_ms = compute_median(rounds_ms)
                error_pct = 100 * (predicted_ms / measured_ms - 1)
                rows.append(PredictionRow(model.name, predicted_ms, measured_ms, error_pct))
                phase.advance(note=f"{model.name}: {error_pct:+.1f} %")
        errors_pct = [abs(row.error_pct) for row in rows]
        return PredictionError(compute_median(errors_pct), compute_p95(errors_pct), tuple(rows))


def guess_dynamic(inputs: "Mapping[str, Tensor]") -> dict[str, dict[int, str]]:
    """Axis 0 is the batch; axis 1 the length in (B, T) of integers and (B, T, D) of numbers."""
    has_length = {
        name: value.ndim == (3 if value.is_floating_point() else 2) for name, value in inputs.items()
    }
    return {name: {0: "batch", 1: "length"} if has_length[name] else {0: "batch"} for name in inputs}


def _freeze(sizes: Mapping[str, int]) -> Sizes:
    return tuple(sorted((axis, int(size)) for axis, size in sizes.items()))
