"""Widths within a budget, for every step that narrows: exact costs first, measured latency where it is asked for.

A latency limit holds when the median, measured in turns with the input in the recipe's runtime, meets it; MACs are the
lever that is turned between measurements, at most three times after the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archtool.run.step import Context

if TYPE_CHECKING:
    from archtool.budget.language import Budget, Limit
    from archtool.ir.edit import Edit
    from archtool.measure.latency import LatencyResult
    from archtool.model.checkpoint import Checkpoint

RE_SOLVES = 3
MARGIN = 0.97
"""The next MACs limit aims this far below the latency limit, for noise."""

Solve = Callable[["Budget"], "Edit"]


@dataclass(frozen=True)
class Latency:
    """A latency limit that was met: the limit and the median in milliseconds, and the measurement as JSON."""

    limit_ms: float
    median_ms: float
    result: str


def within(checkpoint: Checkpoint, budget: Budget, context: Context, solve: Solve) -> tuple[Edit, Latency | None]:
    """The edit that ``solve`` finds for the budget, and what was measured if there is a latency term.

    Raises:
        BudgetError: no edit meets the budget; the message names the nearest points.
    """
    limit = budget.limit("latency")
    exact = replace(budget, terms=tuple(t for t in budget.terms if t.kind != "latency"))
    return (solve(exact), None) if limit is None else _measured(checkpoint, limit, exact, context, solve)


def _measured(
    checkpoint: Checkpoint, limit: Limit, exact: Budget, context: Context, solve: Solve
) -> tuple[Edit, Latency]:
    from archtool.budget.language import Limit
    from archtool.errors import BudgetError
    from archtool.model.apply import apply
    from archtool.model.costs import Workload, costs

    macs = costs(checkpoint, Workload(context.recipe.length))["macs"]
    edit, tried = solve(exact), []
    for _ in range(RE_SOLVES + 1):
        child = apply(checkpoint, edit)
        result = latencies(checkpoint, child, context)
        before_ms, after_ms = result.get("parent").median_ms, result.get("child").median_ms
        limit_ms = limit.value * before_ms if limit.relative else limit.value
        reached = costs(child, Workload(context.recipe.length))["macs"]
        tried.append(f"{after_ms:.3g} ms at {reached / macs:.3g}x MACs")
        context.log(f"latency {after_ms:.4g} ms (input {before_ms:.4g} ms, limit {limit_ms:.4g} ms)")
        if after_ms <= limit_ms:
            return edit, Latency(limit_ms, after_ms, result.to_json())
        target = reached * min(MARGIN * limit_ms / after_ms, MARGIN)
        try:
            edit = solve(replace(exact, terms=(*exact.terms, Limit("macs", target))))
        except BudgetError as impossible:
            tried.append(impossible.hint)
            break
    raise BudgetError(
        f"no width meets {limit} in {context.recipe.runtime}",
        f"Measured: {'; '.join(tried)}. Allow more kinds of units.",
    )


def latencies(parent: Checkpoint, child: Checkpoint, context: Context) -> LatencyResult:
    """Medians in milliseconds of input and result, measured in turns in the recipe's runtime."""
    from archtool.measure.compare import BenchPlan, bench_models
    from archtool.measure.machine import machine
    from archtool.measure.timing import TimingPlan

    recipe = context.recipe
    plan = BenchPlan(
        runtimes=(recipe.runtime,), batches=(recipe.batch,), lengths=(recipe.length,),
        threads=context.threads or machine().cores, dtype=context.dtype, timing=TimingPlan(), seed=context.seed,
    )  # fmt: skip
    (result,) = bench_models({"parent": parent, "child": child}, plan, context.progress)
    return result
