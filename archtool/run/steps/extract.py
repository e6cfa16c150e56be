"""``extract``: cut a submodel out of a nested checkpoint: the first units of each axis, uniformly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archtool.config.fields import BudgetText, Names
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option

if TYPE_CHECKING:
    from archtool.budget.language import Budget
    from archtool.ir.edit import Edit


class ExtractOptions(StepOptions):
    """Options of ``extract``."""

    budget: BudgetText = option(..., "What the submodel may cost, e.g. params=0.6x.", panel="Budget")
    units: Names = option(
        (),
        "Kinds of nested units: ffn, heads, queries, qk, v, inner, state, rank, width (the streams). Without any: ffn, "
        "or inner where a model has none.",
    )
    multiple: int = option(1, "Round widths down to a multiple of this.", ge=1)


class Extract(Step[ExtractOptions]):
    """Uniform prefix extraction."""

    name: ClassVar[str] = "extract"
    Options = ExtractOptions
    summary: ClassVar[str] = "Cut a submodel of any budget out of a nested checkpoint."
    examples: ClassVar[tuple[str, str]] = (
        "archtool extract nested-vit --budget params=0.6x",
        "archtool extract nested-llama --budget size=300MB --units ffn,heads --json",
    )
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "runtime", "batch", "length", "threads", "device", "dtype",
        "protect", "recover", "require",
    )  # fmt: skip

    def estimate(self, state: State, options: ExtractOptions) -> Estimate:
        """One pass over the weights that stay."""
        from archtool.run.steps.editing import disk_estimate

        return disk_estimate(state)

    def run(self, state: State, options: ExtractOptions, context: Context) -> State:
        """The largest uniform prefix within the budget."""
        from archtool.model.apply import apply
        from archtool.model.costs import Workload, costs
        from archtool.run.steps.editing import absolute, finish
        from archtool.run.steps.widths import within
        from archtool.transforms.extract.prefix import prefix_order
        from archtool.transforms.units import check_patterns, kinds_for, unit_axes
        from archtool.transforms.widths import largest_fraction

        checkpoint, workload = state.checkpoint, Workload(context.recipe.length)
        arch, budget = checkpoint.architecture, absolute(options.budget, state, context)
        check_patterns(arch, context.recipe.protect)
        kinds = kinds_for(arch, options.units, ("ffn",))
        order = prefix_order(arch, unit_axes(arch, kinds, context.recipe.protect))

        def solve(limits: Budget) -> Edit:
            return largest_fraction(
                arch, order, limits, lambda e: costs(apply(checkpoint, e), workload), "prefix", options.multiple
            )

        edit, latency = within(checkpoint, budget, context, solve)
        return finish(state, edit, apply(checkpoint, edit), context, budget, "extract", latency)
