"""The exact solver: one choice per site, least total loss, all limits kept (a multiple-choice knapsack).

A *site* (a block's ffn, a head group, a tensor) offers *choices*; a choice has a predicted loss increase and a cost
vector. Costs add over sites. `solve` is a mixed-integer program solved by HiGHS with a proved gap; `solve_additive`
is dynamic programming for a single whole-numbered cost. Source: Sinha and Zoltners 1979 (multiple-choice knapsack).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archtool.errors import BudgetError


@dataclass(frozen=True)
class Choice:
    """One way to treat a site: predicted loss increase and costs by metric name."""

    loss: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Solution:
    """Chosen index per site, total loss, total costs, and the proved relative gap to the optimum."""

    picks: tuple[int, ...]
    loss: float
    costs: Mapping[str, float]
    gap: float


def solve(sites: Sequence[Sequence[Choice]], limits: Mapping[str, float]) -> Solution:
    """The choices of least loss under upper limits on summed costs.

    Raises:
        BudgetError: no combination meets the limits; the message gives the least reachable of each cost.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    _check_reachable(sites, limits)
    losses = np.array([choice.loss for site in sites for choice in site])
    one_per_site = np.zeros((len(sites), len(losses)))
    start = 0
    for i, site in enumerate(sites):
        one_per_site[i, start : start + len(site)] = 1
        start += len(site)
    rows = [[choice.costs.get(name, 0.0) / limits[name] for site in sites for choice in site] for name in limits]
    constraints = [LinearConstraint(one_per_site, 1, 1)]
    if rows:
        constraints.append(LinearConstraint(np.array(rows), -np.inf, 1.0))
    found = milp(
        losses, constraints=constraints, integrality=np.ones(len(losses), dtype=np.int64), bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if found.x is None:
        raise BudgetError(f"no combination meets {_text(limits)} at once", _nearest(sites, limits))
    return _solution(sites, _picked(sites, found.x.tolist()), float(found.mip_gap or 0.0))


def _picked(sites: Sequence[Sequence[Choice]], x: Sequence[float]) -> tuple[int, ...]:
    picks, start = [], 0
    for site in sites:
        inside = list(x[start : start + len(site)])
        picks.append(inside.index(max(inside)))
        start += len(site)
    return tuple(picks)


def _solution(sites: Sequence[Sequence[Choice]], picks: tuple[int, ...], gap: float) -> Solution:
    chosen = [site[i] for site, i in zip(sites, picks, strict=True)]
    names = {name for choice in chosen for name in choice.costs}
    totals = {name: sum(choice.costs.get(name, 0.0) for choice in chosen) for name in sorted(names)}
    return Solution(picks, sum(choice.loss for choice in chosen), totals, gap)


def _check_reachable(sites: Sequence[Sequence[Choice]], limits: Mapping[str, float]) -> None:
    for name, limit in limits.items():
        least = sum(min(choice.costs.get(name, 0.0) for choice in site) for site in sites)
        if least > limit:
            raise BudgetError(f"{name} cannot go below {least:g}; the limit is {limit:g}", _nearest(sites, limits))


def _nearest(sites: Sequence[Sequence[Choice]], limits: Mapping[str, float]) -> str:
    least = {n: sum(min(c.costs.get(n, 0.0) for c in site) for site in sites) for n in limits}
    return f"The least reachable, each alone: {_text(least)}."


def _text(costs: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in costs.items())


def solve_additive(sites: Sequence[Sequence[tuple[float, int]]], limit: int) -> tuple[int, ...]:
    """The same for one whole-numbered cost: choices are (loss, cost); returns the chosen index per site.

    Exact in O(limit × choices) steps; `solve` is faster where costs are large.

    Raises:
        BudgetError: even the cheapest choices exceed the limit.
    """
    import numpy as np

    least = sum(min(cost for _, cost in site) for site in sites)
    if least > limit:
        raise BudgetError(f"the cost cannot go below {least}; the limit is {limit}", f"Allow at least {least}.")
    best = np.zeros(limit + 1)
    taken = np.zeros((len(sites), limit + 1), dtype=np.int64)
    for i, site in enumerate(sites):
        options = np.full((len(site), limit + 1), np.inf)
        for j, (loss, cost) in enumerate(site):
            if cost <= limit:
                options[j, cost:] = best[: limit + 1 - cost] + loss
        taken[i], best = options.argmin(0), options.min(0)
    picks, left = [], limit
    for i in range(len(sites) - 1, -1, -1):
        picks.append(int(taken[i, left]))
        left -= sites[i][picks[-1]][1]
    return tuple(reversed(picks))
