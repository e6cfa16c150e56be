"""Uniform widths of a module under a budget: one kept share for all groups, each keeps at least one unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archtool.budget.language import Budget
from archtool.transforms.modules.criteria import Scores
from archtool.transforms.widths import kept_units, largest_step, ranked

Removed = dict[str, tuple[int, ...]]


def largest_share(
    scored: Scores, budget: Budget, costs: Callable[[Removed], Mapping[str, float]], multiple: int = 1
) -> Removed:
    """The units to remove from each group at the largest kept share that meets an absolute budget.

    Raises:
        BudgetError: even one unit of each is over; the message gives its costs.
    """
    order = ranked(scored)

    def at(share: float) -> Removed:
        return {name: removed(order[name], kept_units(len(order[name]), share, multiple)) for name in order}

    return largest_step(at, budget, costs)


def removed(order: Sequence[int], kept: int) -> tuple[int, ...]:
    """The units behind the first ``kept`` of an order."""
    return tuple(sorted(order[kept:]))
