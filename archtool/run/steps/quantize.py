"""``quantize``: store weights as small integers, round-to-nearest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archtool.config.fields import BudgetText
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint

MEASURED_BYTES = 2_000_000_000
"""Errors of single tensors are measured up to this size of the input."""


class QuantizeOptions(StepOptions):
    """Options of ``quantize``."""

    scheme: str = option("w8", "How weights are stored: w8, w4g64, w4g32-asym, …")
    tables: bool = option(True, "Also encode embedding tables.")
    budget: BudgetText | None = option(None, "What the result may cost; checked, never exceeded.", panel="Budget")


class Quantize(Step[QuantizeOptions]):
    """Round-to-nearest weight quantization."""

    name: ClassVar[str] = "quantize"
    Options = QuantizeOptions
    summary: ClassVar[str] = "Make a checkpoint's numbers smaller."
    examples: ClassVar[tuple[str, str]] = (
        "archtool quantize MiniLM --scheme w8 --task similarity --data stsb-en-dev.csv",
        "archtool quantize my-llama --scheme w4g64 --protect b0 --out four-bits",
    )
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "length", "threads", "device", "dtype", "protect", "recover", "require",
    )  # fmt: skip

    def estimate(self, state: State, options: QuantizeOptions) -> Estimate:
        """One pass over the weights."""
        from archtool.run.steps.editing import disk_estimate

        return disk_estimate(state)

    def run(self, state: State, options: QuantizeOptions, context: Context) -> State:
        """Encode every matrix that is not protected."""
        from archtool.errors import BudgetError
        from archtool.model.apply import apply
        from archtool.model.costs import Workload, costs
        from archtool.run.steps.editing import absolute, finish
        from archtool.transforms.quantize.rtn import rtn_edit
        from archtool.transforms.quantize.scheme import parse_scheme
        from archtool.transforms.units import check_patterns
        from archtool.transforms.widths import nearest

        arch, protect = state.checkpoint.architecture, context.recipe.protect
        check_patterns(arch, protect)
        edit = rtn_edit(arch, parse_scheme(options.scheme).encoding, protect, options.tables)
        if edit.notes:
            first, why = edit.notes[0]
            context.log(f"{len(edit.notes)} tensors are not stored as {options.scheme}: {first} ({why}), …")
        child = apply(state.checkpoint, edit)
        budget = absolute(options.budget, state, context) if options.budget else None
        if budget is not None:
            reached = costs(child, Workload(context.recipe.length))
            if budget.check(reached):
                over = "; ".join(map(str, budget.check(reached)))
                raise BudgetError(
                    f"{options.scheme} does not reach the budget: {over}",
                    f"The nearest feasible: {nearest(budget, reached)}. Use fewer bits, or prune first.",
                )
        after = finish(state, edit, child, context, budget, "quantize")
        return replace(after, records={**after.records, "errors": _errors(state.checkpoint, child)})


def _errors(before: Checkpoint, after: Checkpoint) -> dict[str, float]:
    """Relative error of each encoded tensor; not for models so large that another pass would cost minutes."""
    from archtool.model.costs import stored_bytes
    from archtool.transforms.quantize.error import relative_errors

    return relative_errors(before, after) if stored_bytes(before) <= MEASURED_BYTES else {}
