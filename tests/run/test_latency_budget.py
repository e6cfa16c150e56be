"""Latency budgets: MACs are turned until the measured median is within the limit; measurements are faked here."""

from types import SimpleNamespace

import pytest

from archtool.budget.language import parse_budget
from archtool.errors import BudgetError
from archtool.model.apply import apply
from archtool.model.costs import costs
from archtool.run.steps import widths
from archtool.transforms.extract.prefix import prefix_order
from archtool.transforms.units import unit_axes
from archtool.transforms.widths import largest_fraction
from tests.model.tiny import tiny


@pytest.fixture
def world(monkeypatch):
    """A checkpoint, a solver, and a machine whose latency is MACs to a power, plus a floor."""
    checkpoint = tiny("llama")
    order = prefix_order(checkpoint.architecture, unit_axes(checkpoint.architecture, ["ffn", "heads"]))
    measured = []

    def latencies(parent, child, context):
        ratio = costs(child)["macs"] / costs(parent)["macs"]
        measured.append(ratio)
        times = {"parent": 10.0, "child": 10.0 * (0.2 + 0.8 * ratio**0.5)}
        return SimpleNamespace(get=lambda name: SimpleNamespace(median_ms=times[name]), to_json=lambda: "{}")

    monkeypatch.setattr(widths, "latencies", latencies)
    context = SimpleNamespace(recipe=SimpleNamespace(length=64, runtime="onnxruntime"), log=lambda text: None)

    def solve(budget):
        return largest_fraction(checkpoint.architecture, order, budget, lambda e: costs(apply(checkpoint, e)), "prefix")

    return checkpoint, context, solve, measured


@pytest.mark.parametrize("budget", ["latency=0.85x", "latency=8.5ms", "params=0.9x,latency=0.9x"])
def test_the_limit_is_met_within_three_re_solves(world, budget):
    checkpoint, context, solve, measured = world
    exact = parse_budget(budget)
    edit, latency = widths.within(
        checkpoint, exact if "params" not in budget else resolved(exact, checkpoint), context, solve
    )
    assert latency.median_ms <= latency.limit_ms and len(measured) <= 4 and ("params" in budget or len(measured) > 1)
    assert costs(apply(checkpoint, edit))["macs"] < costs(checkpoint)["macs"]


def resolved(budget, checkpoint):
    from dataclasses import replace

    limits = {t.kind: t for t in budget.terms}
    params = replace(limits["params"], value=limits["params"].value * costs(checkpoint)["parameters"], relative=False)
    return replace(budget, terms=(params, limits["latency"]))


def test_an_unreachable_limit_lists_what_was_measured(world):
    checkpoint, context, solve, _ = world
    with pytest.raises(BudgetError) as caught:
        widths.within(checkpoint, parse_budget("latency=0.1x"), context, solve)
    assert "ms at" in caught.value.hint and caught.value.exit_code == 6


def test_without_a_latency_term_nothing_is_measured(world):
    checkpoint, context, solve, measured = world
    _, latency = widths.within(checkpoint, parse_budget("macs=1M"), context, solve)
    assert latency is None and not measured
