"""The exact solver against brute force."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archtool.budget.solve import Choice, solve, solve_additive
from archtool.errors import BudgetError

SITE = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=4)


def brute(sites, limit):
    best = None
    for picks in itertools.product(*(range(len(s)) for s in sites)):
        cost = sum(s[i][1] for s, i in zip(sites, picks, strict=True))
        loss = sum(s[i][0] for s, i in zip(sites, picks, strict=True))
        if cost <= limit and (best is None or loss < best):
            best = loss
    return best


@settings(max_examples=60, deadline=None)
@given(st.lists(SITE, min_size=1, max_size=5), st.integers(0, 60))
def test_both_solvers_reach_the_brute_force_optimum(sites, limit):
    best = brute(sites, limit)
    as_choices = [[Choice(float(loss), {"cost": float(cost)}) for loss, cost in site] for site in sites]
    if best is None:
        with pytest.raises(BudgetError):
            solve_additive(sites, limit)
        with pytest.raises(BudgetError):
            solve(as_choices, {"cost": limit})
        return
    picks = solve_additive(sites, limit)
    assert sum(s[i][1] for s, i in zip(sites, picks, strict=True)) <= limit
    assert sum(s[i][0] for s, i in zip(sites, picks, strict=True)) == best
    if limit:
        found = solve(as_choices, {"cost": limit})
        assert found.loss == pytest.approx(best) and found.costs.get("cost", 0) <= limit and found.gap == 0


def test_two_limits_at_once():
    rng = random.Random(0)
    sites = [
        [Choice(rng.random(), {"a": rng.randint(1, 9), "b": rng.randint(1, 9)}) for _ in range(4)] for _ in range(5)
    ]
    limits = {"a": 22.0, "b": 22.0}
    best = min(
        sum(c.loss for c in combo)
        for combo in itertools.product(*sites)
        if all(sum(c.costs[n] for c in combo) <= limits[n] for n in limits)
    )
    found = solve(sites, limits)
    assert found.loss == pytest.approx(best)
    assert all(found.costs[n] <= limits[n] for n in limits)


def test_an_impossible_limit_says_what_is_reachable():
    with pytest.raises(BudgetError) as caught:
        solve([[Choice(0.0, {"size": 10.0})], [Choice(0.0, {"size": 5.0}), Choice(1.0, {"size": 4.0})]], {"size": 13.0})
    assert "14" in caught.value.what and caught.value.exit_code == 6
