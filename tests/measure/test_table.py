import itertools
import multiprocessing
import sqlite3

import numpy as np
import pytest
import torch
from small_models import ImageModel, TextModel, make_pixel_inputs, make_text_inputs
from torch import nn

from archtool.errors import InputError, MismatchError, ResourceError
from archtool.measure.interpolate import interpolate
from archtool.measure.memory import measure_peak_memory
from archtool.measure.repeat import build_copies, can_chain
from archtool.measure.slope import MAX_COPIES, compute_slope
from archtool.measure.store import Entry, LatencyStore, Scope, get_default_path
from archtool.measure.table import OVERHEAD, REFERENCE, LatencyTable, ModelCase, OpCase, guess_dynamic
from archtool.measure.timing import TimingPlan

QUICK = TimingPlan(min_rounds=3, min_seconds=0.0, warmup_window=1, warmup_max=2)
OVERHEAD_MS = 0.5


class Costly(nn.Module):
    """An operator that says what it costs on `ModelRuntime`."""

    def __init__(self, cost_ms):
        super().__init__()
        self.cost_ms = cost_ms

    def forward(self, x):
        return x * 1


class Several(nn.Module):
    def __init__(self, *costs_ms):
        super().__init__()
        self.parts = nn.ModuleList(Costly(cost) for cost in costs_ms)


class ModelRuntime:
    """A runtime whose latency is known: overhead plus the costs of the `Costly` operators inside."""

    name, version, per_shape, in_caller = "known", "1", False, False

    def __init__(self, precision="fp32"):
        self.precision, self.settings, self.now_ns, self.prepared = precision, {}, 0, 0

    def prepare(self, model, inputs, threads, dtype="fp32", dynamic=None):
        self.prepared += 1
        return KnownSession(self, model)


class KnownSession:
    def __init__(self, runtime, model):
        costs_ms = [part.cost_ms for part in model.modules() if isinstance(part, Costly)]
        self.runtime, self.total_ms = runtime, OVERHEAD_MS + sum(costs_ms)
        self.precision, self.settings = runtime.precision, {}

    def bind(self, inputs):
        return self.run_once

    def run_once(self):
        self.runtime.now_ns += round(self.total_ms * 1e6)

    def close(self):
        pass


def _known_table(path, engine=None):
    engine = engine or ModelRuntime()
    table = LatencyTable(store=LatencyStore(path), plan=QUICK, engine=engine)
    object.__setattr__(table._bench, "clock", lambda: engine.now_ns)
    return table, engine


def _case(signature, cost_ms, **sizes):
    return OpCase(signature, sizes, lambda: Costly(cost_ms), lambda: {"x": torch.ones(1, 4, 2)})


def test_slope_removes_overhead_and_sums_predict_whole_models(tmp_path):
    table, engine = _known_table(tmp_path / "l.sqlite")
    cases = [_case("mlp", f / 100, ffn=f) for f in (16, 64)] + [_case("norm", 0.001)]
    assert table.build(cases) == 5 and table.measure_overhead_ms() == OVERHEAD_MS
    assert table.predict("mlp", {"ffn": 32}) == pytest.approx(0.32)
    assert table.measure(cases[2]).copies == MAX_COPIES and table.measure(cases[0]).copies == 2
    ops = [("mlp", {"ffn": 64}), ("mlp", {"ffn": 40}), ("norm", {})]
    x = {"x": torch.ones(1, 4, 2)}
    error = table.validate([ModelCase("exact", lambda: Several(0.64, 0.40, 0.001), x, ops)])
    assert error.rows[0].measured_ms == pytest.approx(OVERHEAD_MS + 1.041) and error.p95_pct < 1e-6
    slower = table.validate(
        [
            ModelCase("half", lambda: Several(0.02), x, ops),
            ModelCase("exact", lambda: Several(1.041), x, ops),
        ]
    )
    assert slower.rows[0].error_pct == pytest.approx(100 * (1.541 / 0.52 - 1))
    assert slower.median_pct == pytest.approx(slower.rows[0].error_pct / 2)
    measured = engine.prepared
    again, fresh = _known_table(tmp_path / "l.sqlite")
    assert again.build(cases) == 0 and fresh.prepared == 0 and measured > 0
    assert again.hash() == table.hash() and again.entries == table.entries
    again.measure(_case("mlp", 1.0, ffn=100))
    assert again.hash() != table.hash()


def test_operators_that_cost_nothing_and_other_precisions_are_refused(tmp_path):
    table, _ = _known_table(tmp_path / "l.sqlite")
    with pytest.raises(ResourceError, match="not measurably slower"):
        table.measure(_case("free", 0.0))
    with pytest.raises(InputError, match="no overhead"):
        table.predict_model([])
    wrong, _ = _known_table(tmp_path / "l.sqlite", ModelRuntime(precision="bf16"))
    with pytest.raises(MismatchError, match="computes in bf16, not in fp32"):
        wrong.measure(_case("mlp", 1.0))
    assert {entry.signature for entry in wrong.entries} == {REFERENCE}


class Drifting(KnownSession):
    """Everything takes ``factor`` times as long, from window to window."""

    def run_once(self):
        self.runtime.calls += 1
        self.runtime.now_ns += round(self.total_ms * self.runtime.factor() * 1e6)


def _drifting(path, factors):
    engine = ModelRuntime()
    engine.calls, engine.factor = 0, lambda: factors[min(engine.calls // 100, len(factors) - 1)]
    engine.prepare = lambda model, *rest: Drifting(engine, model)
    table, _ = _known_table(path, engine)
    return table, engine


def test_entries_are_stated_at_the_best_speed_of_the_reference(tmp_path):
    table, engine = _drifting(tmp_path / "l.sqlite", [1.0, 3.0])
    assert table.measure_reference_ms() == OVERHEAD_MS and engine.calls < 100
    engine.calls = 100
    assert table.measure(_case("mlp", 2.0)).median_ms == pytest.approx(2.0)
    x = {"x": torch.ones(1, 4, 2)}
    table.measure_overhead_ms()
    error = table.validate([ModelCase("slow", lambda: Several(2.0), x, [("mlp", {})])])
    assert error.rows[0].error_pct == pytest.approx(0.0, abs=1e-6)


def test_busy_windows_are_measured_again_and_the_quietest_counts(tmp_path):
    table, _ = _known_table(tmp_path / "l.sqlite")
    table.measure_reference_ms()
    factors = iter([4.0] * 3 + [2.0] * 1 + [1.0] * 9)
    windows = []

    def busy(calls, plan, clock):
        windows.append(next(factors))
        rounds_ms = tuple((OVERHEAD_MS * windows[-1],) * 3 for _ in calls)
        return type("Samples", (), {"rounds_ms": rounds_ms})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archtool.measure.slope.time_interleaved", busy)
        assert table.measure_overhead_ms() == OVERHEAD_MS
    assert windows == [4.0, 4.0, 4.0, 2.0, 1.0]


def test_whole_calls_hold_the_overhead(tmp_path):
    table, _ = _known_table(tmp_path / "l.sqlite")
    frame = OpCase("frame", {"width": 4}, lambda: Costly(1.0), lambda: {"x": torch.ones(1, 4, 2)}, whole=True)
    table.build([frame, _case("mlp", 2.0)])
    assert table.predict("frame", {"width": 4}) == pytest.approx(OVERHEAD_MS + 1.0)
    assert table.predict_model([("frame", {"width": 4}), ("mlp", {})]) == pytest.approx(OVERHEAD_MS + 3.0)
    assert table.predict_model([("mlp", {})]) == pytest.approx(OVERHEAD_MS + 2.0)


def test_whole_models_correct_the_sum_around_one_frame(tmp_path):
    table, engine = _known_table(tmp_path / "l.sqlite")
    x = {"x": torch.ones(1, 4, 2)}
    frame = OpCase("frame", {}, lambda: Costly(0.5), lambda: x, whole=True)
    table.build([frame, _case("mlp", 1.0)])
    ops = [("frame", {}), ("mlp", {})]
    models = [ModelCase(f"{cost}", lambda cost=cost: Several(0.5, cost), x, ops) for cost in (1.0, 2.0, 3.0)]
    assert table.calibrate(models) == pytest.approx((1.0 + 2.0) / 2.0)
    assert table.predict_model(ops) == pytest.approx(3.0)
    prepared = engine.prepared
    assert table.calibrate(models) == pytest.approx(1.5) and engine.prepared == prepared
    for wrong in ([], [ModelCase("no frame", lambda: Several(1.0), x, [("mlp", {})])]):
        with pytest.raises(InputError, match="one and the same"):
            table.calibrate(wrong)


def test_slope_interval_holds_the_truth_under_shared_drift():
    noise = np.random.default_rng(0).normal(0, 0.02, size=(2, 200))
    drift = np.linspace(0, 3, 200)
    slope = compute_slope(0.5 + 2 * 0.3 + drift + noise[0], 0.5 + 4 * 0.3 + drift + noise[1], 2)
    assert slope.low_ms < 0.3 < slope.high_ms and slope.high_ms - slope.low_ms < 0.02


def test_interpolation_is_exact_on_multilinear_functions():
    def plane(a, b, c):
        return 2 + 3 * a + 5 * b * c

    grid = {(("a", a), ("b", b), ("c", c)): plane(a, b, c) for a, b, c in itertools.product((1, 4), (2, 8, 16), (3, 9))}
    for a, b, c in [(1, 2, 3), (3, 5, 7), (2, 12, 9), (4, 16, 4)]:
        assert interpolate(grid, {"c": c, "a": a, "b": b}, "op") == pytest.approx(plane(a, b, c))


def test_interpolation_refuses_what_was_not_measured():
    grid = {(("f", 8), ("h", 1)): 1.0, (("f", 16), ("h", 1)): 2.0, (("f", 8), ("h", 2)): 3.0}
    with pytest.raises(InputError, match="op: f = 17 lies outside the measured range 8 to 16"):
        interpolate(grid, {"f": 17, "h": 1}, "op")
    with pytest.raises(InputError, match=r"not measured at \{'f': 16, 'h': 2\}"):
        interpolate(grid, {"f": 12, "h": 2}, "op")
    with pytest.raises(InputError, match=r"measured axes: \['f, h'\]"):
        interpolate(grid, {"width": 12}, "op")
    with pytest.raises(InputError, match="nothing"):
        interpolate({}, {"f": 12}, "op")


SCOPE = Scope("m", "torch", "2", 1, 1, 64, "fp32")


def _add_many(path, base):
    store = LatencyStore(path)
    for size in range(10):
        store.add(SCOPE, Entry("op", (("f", size),), base + size, 0.0, 1.0, 3, 2))


def test_processes_share_the_store_and_the_first_entry_stays(tmp_path):
    path = tmp_path / "deep" / "l.sqlite"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_many, args=(path, base)) for base in (0.0, 100.0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    entries = LatencyStore(path).read(SCOPE)
    assert [entry.sizes[0][1] for entry in entries] == list(range(10))
    later = Entry("op", (("f", 3),), 7777.0, 0.0, 1.0, 3, 2)
    assert LatencyStore(path).add(SCOPE, later) == entries[3]
    assert LatencyStore(path).read(Scope("m", "torch", "2", 2, 1, 64, "fp32")) == []
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_store_location_and_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHTOOL_CACHE", str(tmp_path))
    assert get_default_path() == tmp_path / "latency.sqlite"
    monkeypatch.delenv("ARCHTOOL_CACHE")
    assert get_default_path().parts[-3:] == (".cache", "archtool", "latency.sqlite")
    (tmp_path / "bad.sqlite").write_text("this is no database, and long enough to be read as one" * 20)
    with pytest.raises(ResourceError, match=r"bad\.sqlite cannot be used"):
        LatencyStore(tmp_path / "bad.sqlite").read(SCOPE)


def test_copies_have_weights_of_their_own_and_chain_where_they_can():
    x = {"x": torch.randn(1, 3, 4)}

    class Renamed(nn.Linear):
        def forward(self, x):
            return super().forward(x)

    assert can_chain(lambda: Renamed(4, 4), x, 4) and not can_chain(lambda: Renamed(4, 5), x, 4)

    class Vanishing(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 1e-9

    assert not can_chain(lambda: Vanishing(4, 4, bias=False), x, 8)
    copies = build_copies(lambda: Renamed(4, 4), x, 3, True)
    y = x["x"]
    for layer in copies.copies:
        y = layer(y)
    assert torch.equal(copies(**x)["y0"], y)
    beside = build_copies(lambda: Renamed(4, 5), x, 3, False)
    assert list(beside(**x)) == ["y0", "y1", "y2"] and len({p.data_ptr() for p in beside.parameters()}) == 6
    ids = make_text_inputs(2, 5)
    assert not can_chain(lambda: TextModel(), ids, 2)
    assert guess_dynamic(ids)["input_ids"] == {0: "batch", 1: "length"}
    assert guess_dynamic(make_pixel_inputs(1)) == {"pixel_values": {0: "batch"}}


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_real_operator_is_measured(runtime, tmp_path):
    class Layer(nn.Linear):
        def forward(self, x):
            return super().forward(x)

    plan = TimingPlan(min_rounds=9, min_seconds=0.02, warmup_window=2, warmup_max=4)
    table = LatencyTable(runtime, 1, 1, 8, store=LatencyStore(tmp_path / "l.sqlite"), plan=plan)
    x = {"x": torch.randn(1, 8, 256)}
    entry = table.measure(OpCase("linear", {"out": 1024}, lambda: Layer(256, 1024), lambda: x))
    assert 0 < entry.low_ms <= entry.median_ms <= entry.high_ms and table.measure_overhead_ms() > 0
    assert table.predict_model([("linear", {"out": 1024})] * 2) > table.predict("linear", {"out": 1024})
    assert {item.signature for item in table.entries} == {"linear", OVERHEAD, REFERENCE}


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_peak_memory_sees_the_weights(runtime):
    vocab = 200_000
    model = TextModel(vocab=vocab).eval()
    memory = measure_peak_memory(model, make_text_inputs(1, 4), runtime=runtime)
    assert memory.peak_memory_bytes >= memory.loaded_bytes > 0.9 * vocab * 16 * 4


def test_peak_memory_names_what_went_wrong():
    class Local(ImageModel):
        pass

    with pytest.raises(InputError, match="Local cannot be handed"):
        measure_peak_memory(Local(), make_pixel_inputs(1), runtime="torch")
    with pytest.raises(ResourceError, match=r"unexpected keyword argument|missing"):
        measure_peak_memory(ImageModel(), make_text_inputs(1, 4), runtime="torch")
