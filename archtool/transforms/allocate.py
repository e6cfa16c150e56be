"""Exact allocation of widths: each axis its own kept count, least total removed score within the budget.

A site is an axis (or several that a shared tensor ties), a choice a kept count on a grid; its loss is the sum of the
scores it removes, its cost the change of the whole model's costs. The solver's optimum is checked on the real
architecture; where costs do not add exactly (file headers), the limit is tightened by the excess and solved again, so
that a budget is never exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archtool.budget.language import Budget
from archtool.budget.solve import Choice, solve
from archtool.errors import BudgetError
from archtool.ir.architecture import Architecture
from archtool.ir.edit import Edit
from archtool.ir.table import alike
from archtool.transforms.widths import Costs, ranked, selection_edit

LEVELS = 16
ATTEMPTS = 5


def grid(size: int, multiple: int = 1, levels: int = LEVELS) -> tuple[int, ...]:
    """About ``levels`` kept counts from 1 to ``size``, rounded to ``multiple`` where the axis is larger."""
    wanted = {max(1, round(size * i / levels)) for i in range(1, levels + 1)}
    rounded = {max(multiple, n - n % multiple) if size > multiple else n for n in wanted}
    return tuple(sorted(rounded | {size}))


def allocate(
    arch: Architecture, scores: Mapping[str, Sequence[float]], budget: Budget, costs: Costs, method: str,
    multiple: int = 1,
) -> Edit:  # fmt: skip
    """The edit of least removed score whose costs meet an absolute budget.

    Axes that a shared tensor ties have equal scores (`units.joined`).

    Raises:
        BudgetError: no combination of the grid meets it.
    """
    order, groups = ranked(scores), alike(arch)
    members = {axis: groups.get(axis, (axis,)) for axis in scores if axis == groups.get(axis, (axis,))[0]}
    counts = {axis: grid(arch.size[axis], multiple) for axis in members}
    metrics = [term.metric for term in budget.terms]
    base = costs(Edit(method, ()))
    sites = [
        _choices(members[axis], counts[axis], scores[axis], order, base, metrics, costs, method, len(counts))
        for axis in counts
    ]
    limits = {term.metric: term.value for term in budget.terms}
    for _ in range(ATTEMPTS):
        picks = solve(sites, limits).picks
        kept = {a: counts[axis][i] for axis, i in zip(counts, picks, strict=True) for a in members[axis]}
        edit = selection_edit(method, order, kept, scores)
        excess = budget.check(costs(edit))
        if not excess:
            return edit
        limits = {**limits, **{e.limit.metric: limits[e.limit.metric] - (e.actual - e.limit.value) for e in excess}}
    raise BudgetError(f"{'; '.join(map(str, excess))} after {ATTEMPTS} solutions", "Loosen the budget a little.")


def _choices(
    axes: Sequence[str], counts: Sequence[int], scores: Sequence[float], order: Mapping[str, Sequence[int]],
    base: Mapping[str, float], metrics: Sequence[str], costs: Costs, method: str, sites: int,
) -> list[Choice]:  # fmt: skip
    """Every kept count of axes that are cut alike: the score it removes, and its share of the model's costs."""
    found = []
    for n in counts:
        after = costs(selection_edit(method, order, dict.fromkeys(axes, n)))
        removed = len(axes) * sum(scores[i] for i in order[axes[0]][n:])
        found.append(Choice(removed, {m: base[m] / sites + after[m] - base[m] for m in metrics}))
    return found
