"""From an order of tokens to rows of the model: the selection, what the architecture holds fast, and budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archtool.errors import BudgetError
from archtool.ir.architecture import Architecture
from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select
from archtool.model.apply import apply
from archtool.model.costs import costs_for
from archtool.transforms.widths import nearest

if TYPE_CHECKING:
    from archtool.budget.language import Budget
    from archtool.model.checkpoint import Checkpoint

METHOD = "trim-vocabulary"


def least_kept(arch: Architecture) -> dict[int, str]:
    """Rows that stay because positions count from the padding token, which therefore keeps its id."""
    stems = [op for place in arch.places if (op := place.layer.op) is not None and op.kind == "stem.token"]
    last = max((int(getattr(op, "pad_offset", -1)) for op in stems), default=-1)
    return dict.fromkeys(range(last + 1), "positions count from the padding token")


def row_edit(ids: Sequence[int], rows: int, counts: Mapping[int, int] | None = None) -> Edit:
    """The edit that keeps these rows, in their order; scores are occurrences."""
    kept = tuple(sorted(ids))
    scores = tuple(float(counts.get(i, 0)) for i in range(rows)) if counts is not None else ()
    return Edit(METHOD, (Select(Selection("vocab", kept), scores),) if len(kept) < rows else ())


def kept_ids(edit: Edit, rows: int) -> list[int]:
    """The rows that an edit of `row_edit` keeps."""
    chosen = [d.selection.flat() for d in edit.decisions if isinstance(d, Select)]
    return list(chosen[0]) if chosen else list(range(rows))


def within(
    checkpoint: Checkpoint, order: Sequence[int], least: int, most: int, budget: Budget, counts: Mapping[int, int]
) -> int:
    """The largest number of tokens from ``least`` to ``most`` whose model meets an absolute budget.

    Raises:
        BudgetError: even the least is over; the message gives its costs.
    """
    rows, metrics = checkpoint.architecture.size["vocab"], [term.metric for term in budget.terms]

    def cost(n: int) -> dict[str, float]:
        return costs_for(apply(checkpoint, row_edit(order[:n], rows)), metrics)

    smallest = cost(least)
    excess = budget.check(smallest)
    if excess:
        raise BudgetError(
            f"no vocabulary meets {budget}: with the {least} that cannot be dropped, {'; '.join(map(str, excess))}",
            f"The nearest feasible: {nearest(budget, smallest)}. Prune or quantize as well, or allow more.",
        )
    low, high = least, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if budget.check(cost(middle)) else (middle, high)
    return low
