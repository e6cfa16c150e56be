"""``train``: train a model on labelled data or text, from random weights or from a checkpoint."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from archtool.errors import UsageError
from archtool.run.step import Context, Estimate, State, Step, option
from archtool.run.steps.nested import NestedOptions, nested_training
from archtool.train.settings import Precision, Shape, TrainSettings

if TYPE_CHECKING:
    from archtool.data import Data
    from archtool.train.loop import TrainResult


class TrainOptions(NestedOptions):
    """Options of ``train``."""

    steps: int | None = option(None, "Optimizer steps.", panel="Budget", ge=1)
    minutes: float | None = option(None, "Wall-clock limit; not repeatable to the bit.", panel="Budget", gt=0)
    lr: float = option(1e-3, "Peak learning rate of AdamW.", gt=0)
    batch_size: int = option(64, "Examples per forward pass.", ge=1)
    accumulate: int = option(1, "Forward passes per optimizer step.", ge=1)
    weight_decay: float = option(0.05, "Weight decay of matrices.", ge=0)
    schedule: Shape = option("cosine", "Shape of the learning rate after the warm-up.")
    warmup: float = option(0.1, "Share of the run in which the learning rate rises.", ge=0, le=1)
    clip: float = option(1.0, "Largest norm of the gradient; 0: no limit.", ge=0)
    precision: Precision = option("fp32", "Type of the forward pass; weights stay fp32.", panel="Runtime")
    shift: int = option(0, "Move training images by up to so many pixels.", ge=0)
    flip: bool = option(False, "Mirror half of the training images.")
    split: str = option("train", "Which split of the data to train on; empty: all of it.", panel="Input")
    save_seconds: float = option(30.0, "Save the state for resuming this often.", panel="Output", ge=0)


class Train(Step[TrainOptions]):
    """Trains the current model with the loss of its task."""

    name = "train"
    Options = TrainOptions
    summary = "Train a model: from a checkpoint, or from scratch in a recipe with model: {build: NAME}."
    examples = (
        "archtool train my-vit/ --data sklearn:digits --steps 500 --lr 2e-3 --out runs/digits",
        "archtool train my-llama/ --task lm --data corpus.txt --steps 2000 --nested ffn,heads --sampling sandwich",
    )
    shared = ("task", "data", "columns", "threads", "device", "require")

    def run(self, state: State, options: TrainOptions, context: Context) -> State:
        """Train and return the trained checkpoint; the loss curve is in the records."""
        from archtool.train.augment import Augment
        from archtool.train.run import train

        data = step_data(context, state, options.split)
        nested, sampling = nested_training(state.checkpoint, options, context)
        checkpoint, result = train(
            nested, data, settings_of(options, context.seed), sampling=sampling,
            work=context.work, augment=Augment(options.shift, options.flip),
            device=context.device, threads=context.threads, progress=context.progress,
        )  # fmt: skip
        return trained_state(replace(state, checkpoint=checkpoint, parent=checkpoint), result, self.name, context)

    def estimate(self, state: State, options: TrainOptions) -> Estimate:
        """Memory and disk of weights, gradients and optimizer state."""
        return training_estimate(state)


def settings_of(options: Any, seed: int) -> TrainSettings:
    """The training settings among a step's options."""
    names = TrainSettings.__dataclass_fields__.keys() & type(options).model_fields.keys()
    if options.steps is None and options.minutes is None:
        raise UsageError("training has no end", "give --steps N or --minutes M")
    return TrainSettings(**{name: getattr(options, name) for name in names}, seed=seed)


def step_data(context: Context, state: State, split: str) -> "Data":
    """The examples to train on; `UsageError` where the recipe names no data."""
    from archtool.run.inputs import training_data

    if not context.recipe.data:
        raise UsageError("training needs data", "give --data PATH (recipe: data: {path: ...})")
    return training_data(context.recipe, state.checkpoint, split)


def trained_state(after: State, result: "TrainResult", name: str, context: Context) -> State:
    """The state with its new metrics, and the course of the training in the records."""
    from archtool.run.assess import assess

    if result.resumed_at:
        context.log(f"{name}: continued after step {result.resumed_at}")
    context.detail(f"{name}: {result.steps} steps, {result.threads} threads, {result.processes} processes")
    record = {key: value for key, value in asdict(result).items() if key != "resumed_at" and value is not None}
    for level, loss in ((result.passes or {}).get("nested") or {}).get("level_losses", {}).items():
        context.log(f"{name}: level {level}: mean loss {loss:.4g}")
    assessed = assess(after, context, **{name: record})
    return replace(assessed, metrics={**assessed.metrics, f"{name}_loss": result.loss})


def training_estimate(state: State) -> Estimate:
    """Weights, gradients and two moments in fp32; on disk the same without gradients."""
    from archtool.model.costs import stored_bytes

    if state.checkpoint is None:
        return Estimate()
    nbytes = stored_bytes(state.checkpoint)
    return Estimate(memory_bytes=4 * nbytes, disk_bytes=4 * nbytes, note="activations come on top")
