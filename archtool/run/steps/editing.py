"""What all editing steps share: absolute budgets, applying the edit, and recording what was decided."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archtool.run.assess import assess
from archtool.run.step import Context, Estimate, State

if TYPE_CHECKING:
    from archtool.budget.language import Budget
    from archtool.ir.edit import Edit
    from archtool.model.checkpoint import Checkpoint
    from archtool.run.steps.widths import Latency


def absolute(budget: str, state: State, context: Context) -> Budget:
    """The budget with relative terms resolved against the step's input; latency is resolved when it is measured."""
    from archtool.budget.language import parse_budget
    from archtool.model.costs import Workload, costs

    read = parse_budget(budget)
    exact = replace(read, terms=tuple(t for t in read.terms if t.kind != "latency"))
    resolved = exact.resolve(costs(state.checkpoint, Workload(context.recipe.length)))
    return replace(read, terms=(*resolved.terms, *(t for t in read.terms if t.kind == "latency")))


def finish(
    state: State, edit: Edit, child: Checkpoint, context: Context, budget: Budget | None, verb: str,
    latency: Latency | None = None,
) -> State:  # fmt: skip
    """The next state after an edit: applied, assessed and recorded."""
    from archtool.ir.codec import to_json

    derived = None if edit.delta else child
    after = replace(state, checkpoint=child, edits=(*state.edits, to_json(edit)), derived=derived)
    after = assess(after, context)
    records = dict(after.records)
    if latency is not None:
        after = replace(after, metrics={**after.metrics, "latency_ms": latency.median_ms})
        records["latency"] = [json.loads(latency.result)]
        budget = _resolved(budget, latency)
    records["budgets"] = [*records.get("budgets", []), *budget_checks(budget, after, verb)]
    notes = (*edit.notes, *_left_out(state.checkpoint, child))
    records["notes"] = [*records.get("notes", []), *({"what": what, "reason": why} for what, why in notes)]
    records["scores"] = {**records.get("scores", {}), **_scores(edit)}
    return replace(after, records=records)


def _left_out(before: Checkpoint, after: Checkpoint) -> list[tuple[str, str]]:
    """Tensors of the file that no computation uses and that did not survive the edit."""
    gone = [name for name in before.source.carried if name not in after.source.carried]
    return [(name, "left out: unused, and its axes have changed") for name in gone]


def _resolved(budget: Budget | None, latency: Latency) -> Budget | None:
    """The budget with its latency term in milliseconds."""
    from archtool.budget.language import Budget, Limit

    terms = [t for t in budget.terms if t.kind != "latency"] if budget else []
    return Budget((*terms, Limit("latency", latency.limit_ms)))


def budget_checks(budget: Budget | None, state: State, verb: str) -> list[dict[str, Any]]:
    """Each term of an absolute budget that has a metric, with what was reached."""
    found = []
    for term in budget.terms if budget else ():
        if term.metric in state.metrics:
            reached = state.metrics[term.metric]
            check = {"request": f"{verb} {term}", "metric": term.metric, "limit": term.value, "achieved": reached}
            found.append({**check, "met": reached <= term.value})
    return found


def _scores(edit: Edit) -> dict[str, float]:
    """Mean score of the removed units of each axis, for the report's strip."""
    from archtool.ir.edit import Select

    found = {}
    for decision in edit.decisions:
        if isinstance(decision, Select) and decision.scores and decision.selection.per is None:
            kept = set(decision.selection.keep)
            removed = [s for i, s in enumerate(decision.scores) if i not in kept]
            found[decision.selection.axis] = sum(removed) / len(removed) if removed else 0.0
    return found


def disk_estimate(state: State) -> Estimate:
    """A whole copy of the weights at most."""
    if state.checkpoint is None:
        return Estimate()
    from archtool.model.costs import stored_bytes

    nbytes = stored_bytes(state.checkpoint)
    return Estimate(seconds=nbytes / 2e8, memory_bytes=min(nbytes, 1_000_000_000), disk_bytes=nbytes)
