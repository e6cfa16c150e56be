import csv
import dataclasses
import io
import json
import math

import pytest
import report_samples as samples
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from archtool.errors import InputError, ResourceError
from archtool.report import (
    BudgetCheck,
    Metric,
    PredictedPair,
    Prediction,
    Report,
    Snapshot,
    derived,
    dumps,
    latency_sample,
    loads,
    model_card,
    read_report,
    render,
    summary,
    to_csv,
    to_dict,
    units,
    verdict,
    write_report,
)
from archtool.report.compare import comparison, median_interval
from archtool.report.derive import rank_correlation


def same(first, second) -> bool:
    return json.dumps(to_dict(first)) == json.dumps(to_dict(second))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.from_type(Report))
def test_json_round_trip(report):
    again = loads(dumps(report))
    assert same(again, report)
    assert dumps(again) == dumps(report)
    assert isinstance(again.budgets, tuple) and isinstance(again.child, Snapshot)


@pytest.mark.parametrize("make", [samples.realistic, samples.deep, samples.bare, samples.hostile])
def test_round_trip_is_equality(make):
    assert loads(dumps(make())) == make()


def test_numbers_that_json_cannot_say_survive():
    child = Snapshot(name="x", metrics={"perplexity": Metric(value=math.inf, higher_is_better=False)})
    text = dumps(Report(title="t", model_name="m", child=child))
    assert '"inf"' in text
    assert loads(text).child.metrics["perplexity"].value == math.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="other/9"), "schema is 'other/9'"),
        (lambda d: d.update(titel="x"), "unknown titel"),
        (lambda d: d.pop("title"), "missing title"),
        (lambda d: d["child"].update(parameters="many"), "/child/parameters must be int"),
        (lambda d: d["child"].update(parameters=True), "/child/parameters must be int"),
        (lambda d: d.update(limits="none"), "/limits must be"),
        (lambda d: d.update(child=[]), "/child must be an object"),
    ],
)
def test_wrong_json_is_refused_with_the_place(change, message):
    data = to_dict(samples.bare())
    change(data)
    with pytest.raises(InputError, match=message):
        loads(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_other_files_are_refused(text):
    with pytest.raises(InputError):
        loads(text)


def test_folder_round_trip_and_redraw(tmp_path):
    page = write_report(samples.realistic(), tmp_path / "run")
    first = page.read_bytes()
    assert sorted(p.name for p in page.parent.iterdir()) == ["metrics.json", "report.csv", "report.html"]
    assert read_report(page.parent) == samples.realistic()
    page.unlink()
    assert render(page.parent) == page
    assert page.read_bytes() == first
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        write_report(samples.bare(), tmp_path / "file")


def test_comparison_marks_better_worse_and_noise():
    rows = {row.key: row for row in comparison(samples.realistic())}
    assert rows["parameters"].change == "better"
    assert rows["parameters"].ratio == 17_634_816 / 22_713_216
    assert rows["embedding_parameters"].change == "same"
    assert rows["metric:spearman"].change == "within noise"
    assert rows["metric:agreement_top1"].change == "" and rows["metric:agreement_top1"].parent is None
    assert rows["latency:onnxruntime, batch 1 × 64"].change == "better"
    assert "kv_cache_bytes_per_token" not in rows


def one_metric(before: float, after: float, higher: bool, stderr: float | None = None) -> Report:
    def snapshot(name: str, value: float) -> Snapshot:
        metric = Metric(value=value, higher_is_better=higher, stderr=stderr)
        return Snapshot(name=name, parameters=100, metrics={"m": metric})

    return Report(title="t", model_name="m", parent=snapshot("a", before), child=snapshot("b", after))


@pytest.mark.parametrize(
    ("before", "after", "higher", "stderr", "change"),
    [
        (1.0, 2.0, True, None, "better"),
        (1.0, 2.0, False, None, "worse"),
        (2.0, 2.0, True, 0.1, "same"),
        (2.0, 2.1, True, 0.1, "within noise"),
        (2.0, 2.5, True, 0.1, "better"),
        (2.0, math.nan, True, None, ""),
        (2.0, math.inf, False, 0.1, "worse"),
    ],
)
def test_direction_and_noise(before, after, higher, stderr, change):
    rows = {row.key: row for row in comparison(one_metric(before, after, higher, stderr))}
    assert rows["metric:m"].change == change


def test_latency_noise_needs_disjoint_medians():
    def snapshot(name: str, shift: float) -> Snapshot:
        values = [10 + shift + 0.1 * (i % 7) for i in range(60)]
        return Snapshot(name=name, latency=(latency_sample(values, runtime="torch", batch=1),))

    def change(shift: float) -> str:
        report = Report(title="t", model_name="m", parent=snapshot("a", 0), child=snapshot("b", shift))
        return comparison(report)[0].change

    assert [change(shift) for shift in (0.01, 1.0, -1.0)] == ["within noise", "worse", "better"]
    low, high = median_interval(list(range(100)))
    assert low < 49.5 < high and high - low < 25


def test_verdict_is_computed_from_the_numbers():
    known = derived(samples.realistic())
    assert known.verdict == verdict(samples.realistic(), known.rows)
    assert known.verdict.startswith("Misses spearman>=0.82. 78 % of the parameters, 20 % of the bytes")
    assert "spearman 0.8203 → 0.8119 (within noise)" in known.verdict
    assert "× faster (onnxruntime, batch 1 × 64)." in known.verdict
    bare = derived(samples.bare()).verdict
    assert bare == "1,234 parameters, quality not measured, speed not measured."


@pytest.mark.parametrize(
    ("met", "start"),
    [((True,), "Meets the budget."), ((True, True), "Meets all 2"), ((True, None), "Not checked: b1")],
)
def test_verdict_names_budgets(met, start):
    checks = tuple(BudgetCheck(request=f"b{i}", met=value) for i, value in enumerate(met))
    report = dataclasses.replace(samples.bare(), budgets=checks)
    assert derived(report).verdict.startswith(start)


def test_latency_sample_summarizes_all_values_and_keeps_a_part():
    values = [float(i) for i in range(1001)]
    sample = latency_sample(values, runtime="torch", batch=1, keep=100)
    assert (sample.count, sample.median_ms, sample.p95_ms) == (1001, 500.0, 950.0)
    assert len(sample.values_ms) <= 100 and set(sample.values_ms) <= set(values)
    with pytest.raises(ValueError, match="at least one"):
        latency_sample([], runtime="torch", batch=1)


def test_rank_correlation_against_closed_forms():
    def correlation(pairs: list[tuple[float, float]]) -> float | None:
        made = tuple(PredictedPair(name="", predicted=a, measured=b) for a, b in pairs)
        return rank_correlation(Prediction(quantity="q", pairs=made))

    assert correlation([(1, 10), (2, 1000), (3, 1e6)]) == pytest.approx(1.0)
    assert correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1.0)
    assert correlation([(1, 1), (2, 3), (3, 2), (4, 4)]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert correlation([(1, 1), (1, 2), (1, 3)]) is None
    assert correlation([(1, 1), (2, 2)]) is None


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (22_713_216, "count", "22.7 M"),
        (1234, "count", "1,234"),
        (1.1e9, "count", "1.10 B"),
        (999_999, "bytes", "1.00 MB"),
        (384, "bytes", "384 B"),
        (45_440_000, "bytes", "45.4 MB"),
        (0.842, "ms", "842 µs"),
        (3.214, "ms", "3.21 ms"),
        (12_000, "ms", "12.0 s"),
        (252, "s", "4 min 12 s"),
        (59.99, "s", "60 s"),
        (7500, "s", "2 h 05 min"),
        (0.2834, "ratio", "0.28×"),
        (4.25, "bits", "4.25 bits"),
        (3.6e-7, "error", "3.6 × 10⁻⁷"),
        (-1.5, "nats", "−1.500 nats"),
        (math.inf, "bytes", "∞ B"),
        (math.nan, "", "not a number"),
        (0, "macs", "0 MAC"),
    ],
)
def test_units(value, kind, text):
    assert units.show(value, kind) == text


def test_csv_holds_the_same_numbers():
    report = samples.realistic()
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    rows = derived(report).rows
    assert len({len(line) for line in lines}) == 1
    for line, row in zip(lines, rows, strict=False):
        assert line["section"] == row.group
        assert float(line["after"]) == row.child
        assert (float(line["before"]) if line["before"] else None) == row.parent
    kept = [line for line in lines if line["section"] == "layers" and "score" not in line["quantity"]]
    assert [float(line["after"]) for line in kept] == [row.kept for row in report.layers]


def test_model_card_front_matter_and_body():
    card = model_card(samples.realistic())
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    front = yaml.safe_load(head)
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert front["metrics"] == ["spearman", "spearman_dev", "agreement_top1"]
    results = front["model-index"][0]["results"][0]["metrics"]
    assert results[0] == {"type": "spearman", "value": 0.8119}
    assert derived(samples.realistic()).verdict.replace("_", "\\_") in body.replace("&gt;", ">")
    assert "archtool run recipe.lock.yaml" in body and "## Limits" in body


def test_hostile_model_card_stays_text():
    card = model_card(samples.hostile())
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(head)["base_model"] == samples.HOSTILE
    outside = "".join(body.split("````")[::2])
    assert "<script" not in "".join(part for i, part in enumerate(outside.split("```")) if i % 2 == 0)
    table = [line for line in body.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {6}


@pytest.mark.parametrize("make", [samples.realistic, samples.deep, samples.bare, samples.hostile])
def test_terminal_summary_fits_80_columns(make):
    report = make()
    console = Console(width=80, file=io.StringIO(), record=True, no_color=True)
    console.print(summary(report))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert derived(report).verdict[:30] in text
    if make is samples.realistic:
        assert "▲ better" in text and "✗ missed" in text and "18.3 MB" in text
        assert "heads" in text and "█" in text
    if make is samples.bare:
        assert text.count("not measured") >= 3
