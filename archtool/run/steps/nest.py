"""``nest``: make a nested model of a checkpoint: units in order of importance, then training at every size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from archtool.config.fields import CriterionName, Names, Numbers
from archtool.errors import UsageError
from archtool.run.step import Context, Estimate, Shared, State, Step, option
from archtool.run.steps.evidence import CalibrationOptions
from archtool.run.steps.training import TrainingOptions, step_data, train_step, trained_state, training_estimate
from archtool.train.sampling import Rule

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint


class NestOptions(TrainingOptions, CalibrationOptions):
    """Options of ``nest``."""

    units: Names = option(
        ("ffn",), "What becomes nested: ffn, heads, queries, qk, v, inner, state, rank, width (the streams), depth."
    )
    levels: Numbers = option((0.25, 0.5, 0.75, 1.0), "The parts that units are cut to, ascending, the last 1.")
    allocation: Literal["uniform", "exact"] = option(
        "uniform", "One share for all blocks, or shares of the block parameters allocated by score."
    )
    criterion: CriterionName = option("fisher", "How units are scored: fisher (on data), fisher-batch, magnitude, …")
    multiple: int = option(1, "Round widths down to a multiple of this.", ge=1)
    sampling: Rule = option("sandwich", "Which submodels a training step runs: all, random, sandwich, in-batch, mixed.")
    draws: int = option(2, "How many mixed submodels sandwich and in-batch draw.", ge=1)
    steps: int | None = option(0, "Optimizer steps of nested training; 0: the order alone.", panel="Budget", ge=0)
    lr: float = option(5e-5, "Peak learning rate.", gt=0)
    batch_size: int = option(32, "Examples per forward pass.", ge=1)
    weight_decay: float = option(0.0, "Weight decay of matrices.", ge=0)
    task_weight: float = option(0.0, "Weight of the labels' own loss beside distillation.", ge=0)

    @property
    def trains(self) -> bool:
        """Whether training follows the order."""
        return bool(self.steps or self.minutes)


class Nest(Step[NestOptions]):
    """Order, nest, train."""

    name: ClassVar[str] = "nest"
    Options = NestOptions
    summary: ClassVar[str] = "Turn a checkpoint into a nested one, of which any size can be extracted."
    examples: ClassVar[tuple[str, str]] = (
        "archtool nest MiniLM --units ffn,heads --levels 0.6,0.75,0.9,1 --task similarity --data stsb.csv --steps 300",
        "archtool nest my-vit --units ffn --data images/ --out nested   # the order alone, function unchanged",
    )
    distributed: ClassVar[bool] = True
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "length", "threads", "device", "dtype", "protect", "require",
    )  # fmt: skip

    def estimate(self, state: State, options: NestOptions) -> Estimate:
        """As for ``train`` where it trains; else a pass over the weights."""
        from archtool.run.steps.editing import disk_estimate

        return training_estimate(state) if options.trains else disk_estimate(state)

    def run(self, state: State, options: NestOptions, context: Context) -> State:
        """The nested checkpoint, its training, and every level's quality beside those of the plain prefixes."""
        from archtool.ir.codec import to_json
        from archtool.run.assess import assess
        from archtool.run.nesting import level_metrics, level_records, nested_order, search_record
        from archtool.transforms.units import check_patterns

        if state.checkpoint.nesting is not None:
            raise UsageError("the model is nested already", "`archtool train` trains its submodels further")
        check_patterns(state.checkpoint.architecture, context.recipe.protect)
        made = nested_order(state.checkpoint, options, context)
        ordered = replace(state, checkpoint=made.checkpoint, edits=(*state.edits, to_json(made.edit)))
        done = _trained(ordered, state.checkpoint, options, context) if options.trains else assess(ordered, context)
        notes = [*done.records.get("notes", []), *({"what": w, "reason": r} for w, r in made.notes)]
        found = level_records(state.checkpoint, made, done, context)
        records = {**done.records, "notes": notes, "nest": {"levels": found}, **search_record(found)}
        return replace(done, records=records, metrics={**done.metrics, **level_metrics(found)}, derived=None)


def _trained(state: State, original: Checkpoint, options: NestOptions, context: Context) -> State:
    """Nested training, with distillation from what the model was (or from another teacher)."""
    from archtool.train.sampling import Sampling

    ends = options.model_copy(update={"steps": options.steps or None})
    data, sampling = step_data(context, state, ends.split), Sampling(ends.sampling, ends.draws, ends.temperature)
    checkpoint, result = train_step(ends, state, data, context, "nest", original, sampling)
    return trained_state(replace(state, checkpoint=checkpoint), result, "nest_training", context)
