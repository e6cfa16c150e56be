"""Uniform widths under a budget: one kept fraction for every axis, the largest that the budget allows.

Shared by everything that narrows uniformly: magnitude pruning ranks units by score, prefix extraction by position.
The fraction is found on the exact cost of the real architecture, so a budget is never exceeded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from archtool.budget.language import Budget
from archtool.errors import BudgetError
from archtool.ir.architecture import Architecture
from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select

STEPS = 1000

Costs = Callable[[Edit], Mapping[str, float]]
T = TypeVar("T")


def counts(arch: Architecture, axes: Sequence[str], fraction: float, multiple: int = 1) -> dict[str, int]:
    """Kept units of each axis at a kept ``fraction``, rounded down to ``multiple`` where the axis is larger."""
    return {axis: kept_units(arch.size[axis], fraction, multiple) for axis in axes}


def kept_units(size: int, fraction: float, multiple: int = 1) -> int:
    """Kept units of one axis; at least one."""
    kept = int(size * fraction + 1e-9)
    rounded = kept - kept % multiple if size > multiple else kept
    return max(1, rounded or min(multiple, size))


def ranked(scores: Mapping[str, Sequence[float]]) -> dict[str, list[int]]:
    """Axis → indices, best first (ties: lower index first)."""
    return {axis: sorted(range(len(s)), key=lambda i, s=s: (-s[i], i)) for axis, s in scores.items()}  # type: ignore[misc]


def selection_edit(
    method: str, order: Mapping[str, Sequence[int]], kept: Mapping[str, int],
    scores: Mapping[str, Sequence[float]] | None = None,
) -> Edit:  # fmt: skip
    """An edit that keeps the first ``kept`` units of each order, in their original order."""
    decisions = tuple(
        Select(Selection(axis, tuple(sorted(order[axis][:n]))), tuple((scores or {}).get(axis, ())))
        for axis, n in kept.items()
        if n < len(order[axis])
    )
    return Edit(method, decisions)


def largest_fraction(
    arch: Architecture, order: Mapping[str, Sequence[int]], budget: Budget, costs: Costs, method: str,
    multiple: int = 1, scores: Mapping[str, Sequence[float]] | None = None,
) -> Edit:  # fmt: skip
    """The edit with the largest uniform kept fraction whose costs meet an absolute budget.

    Raises:
        BudgetError: even the narrowest is over; the message gives its costs.
    """

    def at(fraction: float) -> Edit:
        return selection_edit(method, order, counts(arch, list(order), fraction, multiple), scores)

    return largest_step(at, budget, costs)


def largest_step(at: Callable[[float], T], budget: Budget, costs: Callable[[T], Mapping[str, float]]) -> T:
    """What ``at`` makes of the largest kept fraction, in steps of 1 / `STEPS`, whose costs meet an absolute budget.

    Raises:
        BudgetError: even the narrowest is over; the message gives its costs.
    """
    low, high = 0, STEPS
    if not budget.check(costs(at(1.0))):
        return at(1.0)
    smallest = costs(at(0.0))
    excess = budget.check(smallest)
    if excess:
        raise BudgetError(
            f"no uniform width meets {budget}: at the narrowest, {'; '.join(map(str, excess))}",
            f"The nearest feasible: {nearest(budget, smallest)}. Allow more kinds of units, or a larger budget.",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if budget.check(costs(at(middle / STEPS))) else (middle, high)
    return at(low / STEPS)


def nearest(budget: Budget, costs: Mapping[str, float]) -> str:
    """The budget's terms at the costs of a feasible point."""
    return ", ".join(f"{term.kind}={costs[term.metric]:g}" for term in budget.terms)
