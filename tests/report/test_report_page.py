import dataclasses
import json
import math
import re

import pytest
import report_samples as samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_html import Page, check_numbers

from archtool.errors import UsageError
from archtool.report import (
    BudgetCheck,
    Candidate,
    LatencySample,
    LayerRow,
    Metric,
    Panel,
    PredictedPair,
    Prediction,
    Report,
    Search,
    Snapshot,
    StepRecord,
    TensorRow,
    render_html,
    to_dict,
)
from archtool.report.panels.layers import chunks

SAMPLES = {
    "realistic": (samples.realistic, 300),
    "deep": (samples.deep, 400),
    "bare": (samples.bare, 2),
    "hostile": (samples.hostile, 10),
}


@pytest.fixture(scope="module", params=SAMPLES)
def drawn(request):
    make, at_least = SAMPLES[request.param]
    report = make()
    text = render_html(report)
    return report, text, Page(text), at_least


def test_every_number_is_the_one_in_metrics_json(drawn):
    report, _, page, at_least = drawn
    check_numbers(page, to_dict(report), at_least)


def test_page_is_well_formed(drawn):
    _, text, page, _ = drawn
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<h1>") == 1


def test_no_reference_leaves_the_file(drawn):
    _, text, page, _ = drawn
    for name, attributes in page.elements:
        assert name not in {"link", "iframe", "object", "embed", "img", "base", "form"}
        assert attributes.get("src") is None
        for key in ("href", "xlink:href", "action", "data"):
            target = attributes.get(key)
            assert target is None or target.startswith("#"), (name, target)
        assert not any(key.startswith("on") for key in attributes)
    assert not re.findall(r"url\((?!#)", text)
    assert "@import" not in text
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert references <= set(page.ids)


def test_page_holds_its_data_and_runs_no_script(drawn):
    report, text, page, _ = drawn
    kinds = [attributes.get("type") for name, attributes in page.elements if name == "script"]
    assert kinds == ["application/json"]
    assert json.loads("".join(page.scripts)) == json.loads(json.dumps(to_dict(report)))
    assert "default-src 'none'" in text
    assert len(text.encode()) < 1_000_000


def test_same_report_same_bytes(drawn):
    report, text, _, _ = drawn
    assert render_html(report) == text


def test_hostile_names_are_shown_as_text():
    page = Page(render_html(samples.hostile()))
    assert sum(name == "script" for name, _ in page.elements) == 1
    shown = "".join(page.text)
    assert shown.count(samples.HOSTILE) > 15


def test_panels_appear_only_with_something_to_say():
    full, bare = Page(render_html(samples.realistic())), Page(render_html(samples.bare()))
    panel_ids = [a["id"] for n, a in full.elements if n == "section" and a.get("class") == "panel"]
    assert panel_ids == [
        "before-after",
        "candidates",
        "layers",
        "prediction",
        "latency",
        "tensors",
        "steps",
        "skipped",
        "exports",
        "commands",
        "limits",
        "provenance",
    ]
    sections = [a["id"] for n, a in bare.elements if n == "section" and a.get("class") == "panel"]
    assert sections == ["before-after", "limits"]
    assert "".join(bare.text).count("not measured") >= 3


def test_better_and_worse_are_said_in_words():
    text = "".join(Page(render_html(samples.realistic())).text)
    assert "▲ better" in text and "▼ worse" in text and "≈ within noise" in text
    assert "✓ met" in text and "✗ missed" in text and "? not verified" in text


@pytest.mark.parametrize("blocks", [1, 6, 16, 17, 33, 80])
def test_strips_keep_every_block_and_stay_narrow(blocks):
    names = [str(i) for i in range(blocks)]
    parts = chunks(names)
    assert [name for part in parts for name in part] == names
    assert max(map(len, parts)) <= 16
    assert max(map(len, parts)) - min(map(len, parts)) <= len(parts)
    report = dataclasses.replace(samples.deep(blocks), parent=None, child=samples.bare().child)
    page = Page(render_html(report))
    for field in ("kept", "score"):
        paths = {path for path, _, _ in page.numbers if re.fullmatch(rf"/layers/\d+/{field}", path)}
        assert len(paths) == blocks * (3 if field == "kept" else 2)


def test_extra_panels_are_drawn_and_broken_ones_are_named():
    good = Panel("mine", "My panel", lambda report: f"<p>about {len(report.title)}</p>")

    def broken(report):
        raise RuntimeError("no <data>")

    text = render_html(samples.bare(), [good, Panel("broken", "Broken", broken)])
    assert "<p>about 12</p>" in text
    assert "RuntimeError: no &lt;data&gt;" in text
    assert Page(text).problems == []
    with pytest.raises(UsageError, match="latency"):
        render_html(samples.bare(), [Panel("latency", "Twice", lambda report: None)])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.from_type(Report))
def test_any_report_is_drawn_with_its_own_numbers(report):
    page = Page(render_html(report))
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    check_numbers(page, to_dict(report), 0)


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, 1e308, 0.0, -1.0])
def test_numbers_that_no_axis_can_hold_stay_readable(odd):
    latency = LatencySample(runtime="r", batch=1, values_ms=(odd, 1.0), count=2, median_ms=odd, p95_ms=odd)
    points = (
        Candidate(name="a", role="front", quality=odd, costs={"size_bytes": odd}, spread=odd),
        Candidate(name="b", role="chosen", quality=1.0, costs={"size_bytes": 2.0}),
    )
    pair = PredictedPair(name="p", predicted=odd, measured=1.0)
    report = Report(
        title="t",
        model_name="m",
        parent=Snapshot(name="a", metrics={"m": Metric(value=1.0, stderr=0.1)}),
        child=Snapshot(name="b", metrics={"m": Metric(value=odd, stderr=odd)}, latency=(latency,)),
        budgets=(BudgetCheck(request="m>=1", achieved=odd),),
        layers=(LayerRow(block="0", structure="ffn", kept=odd, original=odd, score=odd),),
        steps=(StepRecord(name="s", seconds=odd),),
        tensors=(TensorRow(name="t", scheme="s", bits=odd, error=odd),),
        search=Search(quality_name="m", candidates=points),
        predictions=(Prediction(quantity="q", pairs=(pair, pair, pair)),),
    )
    page = Page(render_html(report))
    assert page.problems == []
    check_numbers(page, to_dict(report), 15)
