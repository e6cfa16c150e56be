"""``extract``: cut a submodel out of a nested checkpoint: the best within a budget, a named one, or the whole front."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from archtool.config.check import FieldError
from archtool.config.fields import BudgetText, Names, Numbers
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option
from archtool.transforms.extract.search import How

if TYPE_CHECKING:
    from archtool.budget.language import Budget
    from archtool.ir.edit import Edit
    from archtool.ir.nesting import Nesting
    from archtool.model.checkpoint import Checkpoint


class ExtractOptions(StepOptions):
    """Options of ``extract``."""

    budget: BudgetText | None = option(None, "What the submodel may cost, e.g. params=0.6x.", panel="Budget")
    front: bool = option(False, "Write all best trade-offs of loss and cost to front.csv.", panel="Output")
    front_models: bool = option(False, "Write each model of the front to front/.", panel="Output")
    points: int = option(24, "Budgets between the narrowest and the whole model that make the front.", ge=2)
    slice: str | None = option(None, "Name of a submodel in the table of --slices.", panel="Budget")
    slices: str | None = option(None, "A slicing table (csv, as Gemma 3n's).", panel="Input")
    write_slices: str | None = option(None, "Write the choice, or the front, to a slicing table.", panel="Output")
    units: Names = option(
        (),
        "Kinds of nested units: ffn, heads, queries, qk, v, inner, state, rank, width (the streams), depth. Without "
        "any: all that are nested; ffn (or inner) where the checkpoint does not say.",
    )
    levels: Numbers = option((), "Where the checkpoint does not say it: nested fractions, e.g. 0.25,0.5,0.75,1.")
    multiple: int = option(1, "Round widths down to a multiple of this, where the checkpoint names none.", ge=1)
    search: How = option("auto", "Measure all submodels, or few and solve; auto: all where there are few.")
    evaluations: int | None = option(None, "How many submodels may be measured. Without: the scores and 32.", ge=1)
    split: str = option("val", "Which split of the data submodels are compared on; empty: all of it.", panel="Input")
    examples: int = option(512, "How many examples of it.", panel="Input", ge=1)

    @model_validator(mode="after")
    def _one_wish(self) -> ExtractOptions:
        if self.slice and (self.budget or self.front):
            raise FieldError("a slice is chosen by its name alone", "leave out budget and front")
        if (self.slice is None) != (self.slices is None):
            raise FieldError("`slice` and `slices` belong together", "--slice NAME --slices table.csv")
        if not (self.budget or self.front or self.front_models or self.slice):
            raise FieldError("nothing says what to extract", "give --budget params=0.6x, --front or --slice NAME")
        return self


class Extract(Step[ExtractOptions]):
    """Extraction from nested models."""

    name: ClassVar[str] = "extract"
    Options = ExtractOptions
    summary: ClassVar[str] = "Cut the best submodel of any budget out of a nested checkpoint."
    examples: ClassVar[tuple[str, str]] = (
        "archtool extract nested-vit --budget params=0.6x --data fashion_mnist --out small",
        "archtool extract nested-llama --front --budget macs=0.5x --task lm --data corpus.txt --write-slices front.csv",
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
        """By name, by measured losses where there are data and a nesting, else by position."""
        from archtool.run.extraction import best, named
        from archtool.transforms.units import check_patterns

        checkpoint = state.checkpoint
        check_patterns(checkpoint.architecture, context.recipe.protect)
        if options.slice:
            return named(state, options, context)
        nesting = checkpoint.nesting or _stated(checkpoint, options, context)
        if nesting is not None:
            return best(state, nesting, options, context)
        return _prefix(state, options, context)


def _stated(checkpoint: Checkpoint, options: ExtractOptions, context: Context) -> Nesting | None:
    """The nesting that the options state."""
    from archtool.transforms.nesting import nesting_of
    from archtool.transforms.units import kinds_for

    if not options.levels:
        return None
    kinds = kinds_for(checkpoint.architecture, options.units, ("ffn",))
    return nesting_of(checkpoint.architecture, kinds, options.levels, options.multiple)


def _prefix(state: State, options: ExtractOptions, context: Context) -> State:
    """Nothing is known: the largest uniform prefix within the budget."""
    from dataclasses import replace

    from archtool.errors import UsageError
    from archtool.model.apply import apply
    from archtool.model.costs import Workload, costs
    from archtool.run.steps.editing import absolute, finish
    from archtool.run.steps.widths import within
    from archtool.transforms.extract.prefix import prefix_order
    from archtool.transforms.units import kinds_for, unit_axes
    from archtool.transforms.widths import largest_fraction

    if options.budget is None or options.front:
        hint = "Say what is nested: --levels 0.25,0.5,0.75,1 --units ffn (archtool nest makes a model nested)."
        raise UsageError("the checkpoint does not say what is nested in it, so it has no front", hint)
    checkpoint, workload = state.checkpoint, Workload(context.recipe.length)
    arch, budget = checkpoint.architecture, absolute(options.budget, state, context)
    order = prefix_order(arch, unit_axes(arch, kinds_for(arch, options.units, ("ffn",)), context.recipe.protect))

    def solve(limits: Budget) -> Edit:
        return largest_fraction(
            arch, order, limits, lambda e: costs(apply(checkpoint, e), workload), "prefix", options.multiple
        )

    edit, latency = within(checkpoint, budget, context, solve)
    note = ("extract", "the checkpoint does not say what is nested in it: the same share of every axis was kept")
    edit = replace(edit, notes=(*edit.notes, note))
    return finish(state, edit, apply(checkpoint, edit), context, budget, "extract", latency)
