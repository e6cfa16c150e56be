import dataclasses

import pytest
import torch
from small_models import ImageModel, TextModel, make_pixel_inputs, make_text_inputs

from archtool.builtins import RUNTIMES
from archtool.errors import InputError, ResourceError, UsageError
from archtool.measure.latency import LatencyResult, Point, measure_grid, measure_sessions
from archtool.measure.machine import Peak, machine, machine_peak
from archtool.measure.pinning import pinned
from archtool.measure.runtimes import get_runtime
from archtool.measure.statistics import bootstrap_ratio, compute_p95
from archtool.measure.timing import TimingPlan, time_interleaved

QUICK = TimingPlan(min_rounds=3, min_seconds=0.0, warmup_window=1, warmup_max=3)


class FakeMachine:
    """A clock that only advances when a fake session runs."""

    def __init__(self):
        self.now_ns, self.log = 0, []

    def clock(self):
        return self.now_ns

    def session(self, name, *costs_ms):
        return FakeSession(self, name, list(costs_ms))


class FakeSession:
    precision, settings = "fp32", {"fake": "yes"}

    def __init__(self, owner, name, costs_ms):
        self.owner, self.name, self.costs_ms = owner, name, costs_ms

    def bind(self, inputs):
        return self.run_once

    def run_once(self):
        self.owner.log.append(self.name)
        cost_ms = self.costs_ms.pop(0) if len(self.costs_ms) > 1 else self.costs_ms[0]
        self.owner.now_ns += int(cost_ms * 1e6)


def test_turns_are_abba_and_rounds_stop_at_time_and_count():
    fake = FakeMachine()
    calls = [fake.session(name, cost).bind({}) for name, cost in (("a", 2.0), ("b", 1.0))]
    plan = TimingPlan(min_rounds=2, min_seconds=0.012, warmup_window=1)
    samples = time_interleaved(calls, plan, fake.clock)
    assert "".join(fake.log) == "aabb" + "abba" * 2  # warm-up, then 4 rounds of 3 ms reach 12 ms
    assert samples.rounds_ms == ((2.0,) * 4, (1.0,) * 4)
    assert samples.warmups == (2, 2) and samples.stable == (True, True)
    fewer = time_interleaved(calls, dataclasses.replace(plan, max_rounds=3), fake.clock)
    assert len(fewer.rounds_ms[0]) == 3


def test_warm_up_waits_until_stable_and_says_when_it_never_was():
    fake = FakeMachine()
    settling, restless = (
        fake.session("s", 50, 9, 3, 1, 1).bind({}),
        fake.session("r", *range(1, 100)).bind({}),
    )
    plan = TimingPlan(min_rounds=1, min_seconds=0, warmup_window=1, warmup_max=7)
    samples = time_interleaved([settling, restless], plan, fake.clock)
    assert samples.warmups == (5, 7) and samples.stable == (True, False)


def test_result_has_medians_ratio_and_json_round_trip():
    fake = FakeMachine()
    sessions = {"parent": fake.session("p", 4, 4, 4, 9, 4, 4), "child": fake.session("c", 1.0)}
    plan = TimingPlan(min_rounds=9, min_seconds=0, warmup_window=1)
    result = measure_sessions(sessions, {}, get_runtime("torch"), Point(1, 2, 8), plan=plan, clock=fake.clock)
    child = result.get("child")
    assert (child.median_ms, child.ratio.value, result.get("parent").ratio.value) == (1.0, 0.25, 1.0)
    assert (child.ratio.low, child.ratio.high) == (0.25, 0.25) and result.n == 9
    assert LatencyResult.from_json(result.to_json()) == result
    assert (result.batch, result.length, result.threads, result.machine) == (2, 8, 1, machine())
    with pytest.raises(UsageError, match="parent, child were"):
        result.get("other")


def test_bootstrap_pairs_rounds_and_is_seeded():
    drift = [1.0 + 0.1 * i for i in range(40)]
    halves = bootstrap_ratio([x / 2 for x in drift], drift, seed=0)
    assert (halves.low, halves.value, halves.high) == pytest.approx((0.5, 0.5, 0.5))  # unpaired would be wide
    noisy = bootstrap_ratio(drift, drift[::-1], seed=3)
    assert noisy == bootstrap_ratio(drift, drift[::-1], seed=3) != bootstrap_ratio(drift, drift[::-1], seed=4)
    assert noisy.low < 1 < noisy.high and compute_p95(range(101)) == 95


def test_pinning_restores_threads_and_refuses_none():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), pinned(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
    with pytest.raises(UsageError), pinned(0):
        pass


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_grid_measures_real_models(runtime):
    models = {"two": TextModel(blocks=2).eval(), "one": TextModel(blocks=1).eval()}
    results = measure_grid(models, make_text_inputs, runtime=runtime, batches=(1, 2), lengths=(4, 8), plan=QUICK)
    assert [(r.batch, r.length) for r in results] == [(1, 4), (1, 8), (2, 4), (2, 8)]
    assert {t.precision for r in results for t in r.timings} == {"fp32"}
    assert all(t.median_ms > 0 for r in results for t in r.timings)


def test_compiled_model_answers_as_eager():
    inputs, model = make_pixel_inputs(2), ImageModel().eval()
    expected = get_runtime("torch").prepare(model, inputs, 1).run(inputs)["logits"]
    compiled = get_runtime("torch-compile").prepare(model, inputs, 1)
    assert compiled.settings["mode"] == "compile"
    assert compiled.run(inputs)["logits"] == pytest.approx(expected, abs=1e-5)


def test_reduced_precision_is_stated_and_leaves_the_model_alone():
    inputs, model = make_text_inputs(1, 4), TextModel().eval()
    session = get_runtime("torch").prepare(model, inputs, 1, "bf16")
    assert session.precision == "bf16" and session.run(inputs)["pooled"].shape == (1, 16)
    assert model.norm.weight.dtype == torch.float32


def test_runtime_errors_say_what_to_do(monkeypatch, tmp_path):
    inputs = make_pixel_inputs(1)
    with pytest.raises(UsageError) as caught:
        get_runtime("onnx-runtime")
    assert "onnxruntime" in caught.value.hint and "openvino" in RUNTIMES
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ResourceError) as missing:
        get_runtime("openvino").prepare(ImageModel(), inputs, 1)
    assert "archtool[openvino]" in missing.value.hint
    with pytest.raises(UsageError, match="runs modules"):
        get_runtime("torch").prepare(tmp_path / "m.onnx", inputs, 1)
    with pytest.raises(UsageError, match="bf16"):
        get_runtime("onnxruntime").prepare(ImageModel(), inputs, 1, "bf16")
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="cannot"):
        get_runtime("onnxruntime").prepare(tmp_path / "m.onnx", inputs, 1)


def test_share_of_peak_counts_two_flops_per_mac():
    peak = Peak(threads=1, flops_per_s=1e9, bytes_per_s=1e9, library="torch", size=256)
    assert peak.compute_share(macs=250_000, latency_ms=1.0) == 0.5


def test_peak_of_this_machine_is_positive_and_cached(monkeypatch):
    monkeypatch.setattr("archtool.measure.machine._GEMM_SIZES", (32,))
    monkeypatch.setattr("archtool.measure.machine._GEMM_SECONDS", 0.0)
    monkeypatch.setattr("archtool.measure.machine._COPY_BYTES", 2**20)
    machine_peak.cache_clear()
    peak = machine_peak(1)
    assert peak.flops_per_s > 0 and peak.bytes_per_s > 0 and peak.size == 32 and machine_peak(1) is peak
    machine_peak.cache_clear()
