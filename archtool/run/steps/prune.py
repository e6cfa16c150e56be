"""``prune``: narrow ffn layers and heads, or drop blocks, until the budget holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from archtool.config.fields import BudgetText, CriterionName, InputPath, InputPaths, Names
from archtool.errors import UsageError
from archtool.run.step import Context, Estimate, Shared, State, Step, option
from archtool.run.steps.evidence import CalibrationOptions

if TYPE_CHECKING:
    from archtool.budget.language import Budget
    from archtool.ir.edit import Edit
    from archtool.model.checkpoint import Checkpoint
    from archtool.run.steps.widths import Latency


class PruneOptions(CalibrationOptions):
    """Options of ``prune``."""

    budget: BudgetText | None = option(None, "What the result may cost, e.g. params=0.5x.", panel="Budget")
    criterion: CriterionName = option(
        "magnitude",
        "How units are scored: magnitude, random, fisher (on data), fisher-batch; for a module also taylor.",
    )
    units: Names = option(
        (),
        "Kinds of units to narrow: ffn, heads, queries, qk, v, inner, state, rank, width (the streams). Without any: "
        "ffn and heads, or inner where a model has neither.",
    )
    blocks: int = option(0, "Blocks to drop, weakest first, before widths are cut; every stage keeps one.", ge=0)
    allocation: Literal["uniform", "exact"] = option(
        "uniform", "One share for all blocks, or each its own by the exact solver."
    )
    multiple: int = option(1, "Round widths down to a multiple of this.", ge=1)
    example_input: InputPaths = option(
        (), "For a module: its input, as 1x3x32x32, input_ids:int64<1000:1x16, or FILE.py:FUNCTION.",
        panel="Input",
    )  # fmt: skip
    loss: InputPath = option(None, "For a module: FILE.py:FUNCTION(module), which yields scalar losses.", panel="Input")


class Prune(Step[PruneOptions]):
    """Structured pruning."""

    name: ClassVar[str] = "prune"
    Options = PruneOptions
    summary: ClassVar[str] = "Make a checkpoint, or a module of a Python file, structurally smaller."
    modules: ClassVar[bool] = True
    examples: ClassVar[tuple[str, str]] = (
        "archtool prune MiniLM --budget params=0.8x --task similarity --data stsb-en-dev.csv",
        "archtool prune my_net.py:build --example-input 1x3x32x32 --budget macs=0.5x --out smaller",
    )
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "runtime", "batch", "length", "threads", "device", "dtype",
        "protect", "recover", "require",
    )  # fmt: skip

    def estimate(self, state: State, options: PruneOptions) -> Estimate:
        """Two passes over the weights."""
        from archtool.model.foreign import Foreign
        from archtool.run.steps.editing import disk_estimate

        return Estimate() if isinstance(state.checkpoint, Foreign) else disk_estimate(state)

    def run(self, state: State, options: PruneOptions, context: Context) -> State:
        """Drop blocks, then find the largest uniform width within the budget."""
        from archtool.model.apply import apply
        from archtool.model.foreign import Foreign
        from archtool.run.steps.editing import absolute, finish
        from archtool.run.steps.prune_module import check_options, prune_module
        from archtool.transforms.units import check_patterns

        if isinstance(state.checkpoint, Foreign):
            return prune_module(state, options, context)
        check_options(options, module=False)
        check_patterns(state.checkpoint.architecture, context.recipe.protect)
        if options.budget is None and not options.blocks:
            raise UsageError("prune needs a budget or a number of blocks", "Give --budget params=0.5x or --blocks 2.")
        budget = absolute(options.budget, state, context) if options.budget else None
        edit, latency = _depth(state.checkpoint, options, context), None
        if budget is not None:
            edit, latency = _widths(apply(state.checkpoint, edit), edit, options, context, budget)
        return finish(state, edit, apply(state.checkpoint, edit), context, budget, "prune", latency)


def _depth(checkpoint: Checkpoint, options: PruneOptions, context: Context) -> Edit:
    from archtool.ir.edit import Edit
    from archtool.transforms.prune.depth import block_scores, drop_weakest

    if not options.blocks:
        return Edit("prune", ())
    found = block_scores(checkpoint, protect=context.recipe.protect, progress=context.progress)
    return drop_weakest(checkpoint.architecture, found, options.blocks)


def _widths(
    checkpoint: Checkpoint, before: Edit, options: PruneOptions, context: Context, budget: Budget
) -> tuple[Edit, Latency | None]:
    from dataclasses import replace

    from archtool.model.apply import apply
    from archtool.model.costs import Workload, costs_for
    from archtool.run.steps.evidence import evidence
    from archtool.run.steps.widths import within
    from archtool.transforms.allocate import allocate
    from archtool.transforms.prune.criteria.base import criterion
    from archtool.transforms.units import joined, kinds_for, unit_axes
    from archtool.transforms.widths import largest_fraction, ranked

    arch, workload = checkpoint.architecture, Workload(context.recipe.length)
    kinds = kinds_for(arch, options.units, ("ffn", "heads"))
    axes = unit_axes(arch, kinds, context.recipe.protect)
    found = joined(arch, criterion(options.criterion)(checkpoint, axes, evidence(checkpoint, options, context)))

    def solve(limits: Budget) -> Edit:
        metrics = [term.metric for term in limits.terms]

        def cost_of(edit: Edit) -> dict[str, float]:
            return costs_for(apply(checkpoint, edit), metrics, workload)

        if options.allocation == "exact":
            return allocate(arch, found, limits, cost_of, options.criterion, options.multiple)
        return largest_fraction(arch, ranked(found), limits, cost_of, options.criterion, options.multiple, found)

    edit, latency = within(checkpoint, budget, context, solve)
    both = replace(edit, decisions=(*before.decisions, *edit.decisions), notes=(*before.notes, *edit.notes))
    return both, latency
