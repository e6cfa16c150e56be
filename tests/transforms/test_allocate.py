"""Exact allocation of widths: within the budget, and never a worse total score than the uniform one."""

import pytest

from archtool.budget.language import parse_budget
from archtool.model.apply import apply
from archtool.model.costs import costs
from archtool.transforms.allocate import allocate, grid
from archtool.transforms.prune.criteria.magnitude import scores
from archtool.transforms.units import joined, unit_axes
from archtool.transforms.widths import largest_fraction, ranked
from tests.model.tiny import tiny


def removed(edit, found):
    return sum(
        sum(s for i, s in enumerate(found[d.selection.axis]) if i not in d.selection.keep) for d in edit.decisions
    )


@pytest.mark.parametrize("budget", ["params=0.8x", "macs=0.75x", "size=0.85x"])
@pytest.mark.parametrize("family", ["vit", "llama"])
def test_exact_is_within_budget_and_at_least_as_good_as_uniform(family, budget):
    checkpoint = tiny(family)
    limits = parse_budget(budget).resolve(costs(checkpoint))
    arch = checkpoint.architecture
    found = joined(arch, scores(checkpoint, unit_axes(arch, ["ffn", "heads"])))
    cost_of = lambda e: costs(apply(checkpoint, e))  # noqa: E731
    exact = allocate(arch, found, limits, cost_of, "magnitude")
    uniform = largest_fraction(arch, ranked(found), limits, cost_of, "magnitude", 1, found)
    assert not limits.check(cost_of(exact))
    assert removed(exact, found) <= removed(uniform, found) * 1.02


def test_axes_that_a_shared_tensor_ties_are_one_site():
    checkpoint = tiny("t5")
    arch = checkpoint.architecture
    limits = parse_budget("params=0.8x").resolve(costs(checkpoint))
    found = joined(arch, scores(checkpoint, unit_axes(arch, ["heads"])))
    edit = allocate(arch, found, limits, lambda e: costs(apply(checkpoint, e)), "magnitude")
    kept = {d.selection.axis: d.selection.keep for d in edit.decisions}
    assert not limits.check(costs(apply(checkpoint, edit))) and any(".attn" in axis for axis in kept)
    for stack in "ed":
        assert len({kept.get(f"{stack}{i}.attn.kv") for i in range(3)}) == 1


def test_grid_keeps_the_whole_and_rounds():
    assert grid(40)[-1] == 40 and grid(40)[0] >= 1
    assert all(n % 8 == 0 or n == 40 for n in grid(40, 8))
    assert grid(3) == (1, 2, 3)
