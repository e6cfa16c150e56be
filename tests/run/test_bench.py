import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from archtool.cli.verbs import shared_flags
from archtool.config.document import parse_yaml
from archtool.config.load import check_recipe
from archtool.errors import RecipeError, UsageError
from archtool.ir.encodings import Affine
from archtool.measure import compare
from archtool.measure.compare import (
    BenchPlan,
    bench_models,
    decoded,
    fastest_fp32,
    latency_rows,
    missing_baseline,
    precision_note,
    runnable,
)
from archtool.measure.inputs import example_inputs
from archtool.measure.latency import LatencyResult
from archtool.measure.machine import Peak
from archtool.measure.slope import Slope
from archtool.measure.store import LatencyStore, Scope
from archtool.measure.timing import TimingPlan
from archtool.model.apply import apply
from archtool.model.save import save
from archtool.run.engine import RunSettings, run_recipe
from archtool.run.hooks import HOOKS
from archtool.run.step import State
from archtool.run.steps.bench import Bench, BenchOptions
from archtool.transforms.quantize.rtn import rtn_edit

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))
from tests.model.tiny import tiny  # noqa: E402

QUICK = TimingPlan(min_rounds=5, min_seconds=0.0, warmup_window=1, warmup_max=3)
PEAK = Peak(threads=1, flops_per_s=1e9, bytes_per_s=1e9, library="torch", size=32)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Few rounds, one thread, a known peak, and a latency store of the test's own."""
    torch.set_num_threads(1)
    monkeypatch.setattr("archtool.run.steps.bench._timing", lambda seconds: QUICK)
    monkeypatch.setattr("archtool.measure.machine.machine_peak", lambda threads: PEAK)
    monkeypatch.setenv("ARCHTOOL_CACHE", str(tmp_path / "cache"))


def _saved(family, folder, seed=0):
    folder.mkdir()
    save(tiny(family, seed), folder)


@pytest.fixture
def run(tmp_path):
    """Run steps on a tiny ViT through the engine; returns the result and what was logged."""
    _saved("vit", tmp_path / "model")

    def run_steps(steps, extra=""):
        lines = []
        text = f"model: {tmp_path / 'model'}\nsteps: {steps}\nthreads: 1\nlength: 9\nruntime: torch\n{extra}\n"
        recipe = check_recipe(parse_yaml(text, Path("r.yaml")))
        result = run_recipe(recipe, HOOKS, out=tmp_path / "run", settings=RunSettings(log=lines.append))
        return result, lines

    return run_steps


def test_the_child_is_measured_in_turns_with_its_parent(run):
    steps = "[{extract: {budget: params=0.8x}}, {bench: {batches: '1,2', baseline: false}}]"
    result, lines = run(steps)
    found = [LatencyResult.from_json(json.dumps(item)) for item in result.records["latency"]]
    assert [(r.runtime, r.batch, r.length, r.threads) for r in found] == [
        ("torch", 1, 8, 1),
        ("torch", 2, 8, 1),
    ]
    parent, child = found[0].timings
    assert (parent.name, child.name, parent.ratio.value) == ("parent", "child", 1.0)
    assert result.metrics["latency_ms"] == child.median_ms and result.metrics["latency_p95_ms"] == child.p95_ms
    assert result.metrics["speedup"] == pytest.approx(parent.median_ms / child.median_ms)
    assert result.metrics["parameters"] < result.records["parent"]["costs"]["parameters"]  # kept from extract
    rows = result.records["bench"]["rows"]
    assert rows[1]["macs"] == result.metrics["macs"] and rows[3]["macs"] == 2 * rows[1]["macs"]
    assert rows[1]["peak_share"] == pytest.approx(2 * rows[1]["macs"] / (child.median_ms / 1e3) / 1e9)
    assert result.records["bench"]["baseline"] is None and "speedup_over_fastest_fp32" not in result.metrics
    assert any("child in torch" in line and "batch 2 x length 8, 1 threads" in line for line in lines)
    assert any(line.startswith("speed-up over the parent in torch") for line in lines)


def test_another_model_can_be_compared_and_precision_is_stated(run, tmp_path):
    _saved("vit", tmp_path / "other", seed=1)
    steps = f"[{{bench: {{against: {tmp_path / 'other'}, baseline: false}}}}]"
    result, _ = run(steps, "dtype: bf16")
    assert [row["model"] for row in result.records["bench"]["rows"]] == ["parent", "child"]
    assert {row["precision"] for row in result.records["bench"]["rows"]} == {"bf16"}
    assert {row["peak_share"] for row in result.records["bench"]["rows"]} == {None}


def test_the_fastest_fp32_runtime_is_the_baseline(run, monkeypatch):
    monkeypatch.setattr(compare, "GRAPH_RUNTIMES", ("torch",))
    result, lines = run("[bench]", "dtype: bf16")
    baseline = result.records["bench"]["baseline"]
    assert (baseline["runtime"], baseline["precision"], baseline["model"]) == ("torch", "fp32", "child")
    assert [row["precision"] for row in result.records["bench"]["rows"]] == ["bf16", "fp32"]
    ratio = baseline["median_ms"] / result.metrics["latency_ms"]
    assert result.metrics["speedup_over_fastest_fp32"] == pytest.approx(ratio) and "speedup" not in result.metrics
    assert any(line.startswith("baseline: child in torch fp32") for line in lines)


def test_the_table_is_built_checked_and_extended(run, tmp_path, monkeypatch):
    measured = []

    def slope(bench, build, inputs, dynamic, reference_ms, copies):
        measured.append(copies)
        return Slope(1.0, 0.9, 1.1, 9, copies)

    monkeypatch.setattr("archtool.measure.table.measure_slope", slope)
    steps = "[{bench: {table: true, points: 2, shapes: 3, seconds: 0, baseline: false}}]"
    result, lines = run(steps)
    record = result.records["latency_table"]
    assert record["entries"] == 8 and record["new"] == 7 and len(measured) == 4  # and the correction
    assert len(record["rows"]) == 3 and record["length"] == 8 and len(record["hash"]) == 64
    for row in record["rows"]:
        assert row["error_pct"] == pytest.approx(100 * (row["predicted_ms"] / row["measured_ms"] - 1))
    assert result.metrics["table_error_median_pct"] == record["median_pct"] <= record["p95_pct"]
    assert any("8 entries (7 new)" in line and "n=3" in line for line in lines)
    assert len(LatencyStore().read(_scope(record))) == 8
    (tmp_path / "run").rename(tmp_path / "earlier")
    assert run(steps)[0].records["latency_table"]["new"] == 0 and len(measured) == 4


def _scope(record):
    return Scope(*(record[field.name] for field in dataclasses.fields(Scope)))


def test_options_take_lists_with_commas_and_refuse_nonsense():
    options = BenchOptions.model_validate({"runtime": ["torch,openvino"], "batches": ["1,8"], "lengths": [16]})
    assert (options.runtime, options.batches, options.lengths) == (("torch", "openvino"), (1, 8), (16,))
    assert BenchOptions().runtime == () and BenchOptions(runtime="a, b").runtime == ("a", "b")
    for wrong in ({"batches": "0"}, {"batches": "many"}, {"runtimes": "torch"}, {"points": 1}):
        with pytest.raises(ValueError):
            BenchOptions.model_validate(wrong)
    assert {"batch", "length", "threads", "dtype"} <= set(shared_flags(Bench())) and not Bench.writes
    with pytest.raises(RecipeError, match="runtimes"):
        check_recipe(parse_yaml("model: x\nsteps: [{bench: {runtimes: torch}}]", Path("r.yaml")))
    estimate = Bench().estimate(State(), BenchOptions(batches="1,2", lengths="8,16,32", seconds=2.0))
    assert estimate.seconds == 12.0


def test_missing_baselines_are_found():
    graph = compare.baseline_runtime()
    assert missing_baseline(BenchPlan(runtimes=("torch", graph))) is None
    extra = missing_baseline(BenchPlan(runtimes=("torch",), batches=(4, 1), lengths=(9, 3), dtype="bf16"))
    assert (extra.runtimes, extra.batches, extra.lengths, extra.dtype) == ((graph,), (4,), (9,), "fp32")
    models = {"parent": tiny("vit")}
    rows = latency_rows(bench_models(models, BenchPlan(("torch",), dtype="bf16", timing=QUICK)), models)
    with pytest.raises(UsageError, match="not measured in fp32"):
        fastest_fp32(rows, "parent")


@pytest.mark.parametrize("bits", [8, 4])
def test_encoded_models_run_in_torch_and_reach_graphs_decoded(bits):
    parent = tiny("vit")
    child = apply(parent, rtn_edit(parent.architecture, Affine(bits)))
    dense = decoded(child)
    inputs = example_inputs(parent.architecture, 2, 8)
    expected = child.module()(**inputs)["logits"]
    assert child.plan.entries and not dense.plan.entries
    assert torch.allclose(dense.module()(**inputs)["logits"], expected, atol=1e-6)
    assert not torch.allclose(parent.module()(**inputs)["logits"], expected, atol=1e-6)
    assert runnable(child, "torch").plan == child.plan and not runnable(child, "onnxruntime").plan.entries
    models = {"child": child}
    rows = latency_rows(bench_models(models, BenchPlan(("torch",), timing=QUICK)), models)
    assert rows[0].precision == f"fp32, {bits}-bit weights decoded at every call"
    assert precision_note(child, "onnxruntime").endswith("decoded before export")
