"""What all steps that train share: their options, their data, their losses, and what they leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from archtool.config.check import FieldError
from archtool.config.fields import InputPath
from archtool.errors import UsageError
from archtool.registry import suggestion
from archtool.run.step import Context, Estimate, State, StepOptions, option
from archtool.train.losses import LOSSES, LossSettings, terms_of
from archtool.train.objectives.layers import LayerMap
from archtool.train.settings import OptimizerName, Precision, Shape, TrainSettings

if TYPE_CHECKING:
    from archtool.data import Data
    from archtool.model.checkpoint import Checkpoint
    from archtool.train.augment import Augment
    from archtool.train.loop import TrainResult
    from archtool.train.losses import Lesson
    from archtool.train.sampling import Sampling


def _losses(weights: dict[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in LOSSES:
            raise FieldError(f"no loss {name!r}", suggestion(name, LOSSES))
        if not weight >= 0:
            raise FieldError(f"the weight of {name} is {weight}", "give 0 or more")
    return weights


Losses = Annotated[dict[str, float], AfterValidator(_losses)]


class AugmentOptions(StepOptions):
    """How training images are changed."""

    shift: int = option(0, "Move training images by up to so many pixels.", ge=0)
    crop: int = option(0, "The same with zeros behind the border.", ge=0)
    flip: bool = option(False, "Mirror half of the training images.")
    rotate: float = option(0.0, "Turn images by up to so many degrees.", ge=0, le=180)
    zoom: float = option(0.0, "Magnify or shrink images by up to this share.", ge=0, lt=1)
    erase: float = option(0.0, "Probability that a rectangle becomes zero.", ge=0, le=1)
    brightness: float = option(0.0, "Brighten or darken by up to this share of the image's deviation.", ge=0)
    contrast: float = option(0.0, "Raise or lower the contrast by up to this share.", ge=0, le=1)
    mixup: float = option(0.0, "Blend with another image; parameter of the Beta distribution of its share.", ge=0)
    cutmix: float = option(0.0, "Paste a rectangle of another image; parameter of the share's Beta.", ge=0)


class TrainingOptions(AugmentOptions):
    """Options of every step that trains."""

    steps: int | None = option(None, "Optimizer steps.", panel="Budget", ge=1)
    minutes: float | None = option(None, "Wall-clock limit; not repeatable to the bit.", panel="Budget", gt=0)
    lr: float = option(1e-3, "Peak learning rate.", gt=0)
    batch_size: int = option(64, "Examples per forward pass.", ge=1)
    accumulate: int = option(1, "Forward passes per optimizer step.", ge=1)
    weight_decay: float = option(0.05, "Weight decay of matrices.", ge=0)
    optimizer: OptimizerName = option("adamw", "muon: Muon on the matrices inside the network, AdamW on the rest.")
    schedule: Shape = option("cosine", "Shape of the learning rate after the warm-up.")
    warmup: float = option(0.1, "Share of the run in which the learning rate rises.", ge=0, le=1)
    clip: float = option(1.0, "Largest norm of the gradient; 0: no limit.", ge=0)
    checkpointing: bool = option(False, "Run blocks again for the backward pass: less memory.", panel="Runtime")
    validation: float = option(0.0, "Share of the data held out; the weights best on it are kept.", ge=0, lt=1)
    validation_steps: int = option(0, "Evaluate the held-out part this often; 0: twenty times.", ge=0)
    patience: int = option(0, "Stop after so many evaluations without a better value; 0: never.", ge=0)
    precision: Precision = option("fp32", "Type of the forward pass; weights stay fp32.", panel="Runtime")
    teacher: InputPath = option(None, "A model to learn from, of any family.", panel="Input")
    teacher_store: InputPath = option(None, "Logits of a teacher, from archtool teach.", panel="Input")
    task_weight: float = option(1.0, "Weight of the labels' own loss.", ge=0)
    teacher_weight: float = option(1.0, "Weight of the distance from the teacher.", ge=0)
    hard: bool = option(False, "Learn the teacher's most probable class instead of its distribution.")
    temperature: float = option(2.0, "Softens the teacher's distribution.", gt=0)
    losses: Losses = option({}, "All weights at once, such as {task: 0.5, kl: 1, hidden: 0.1}.")
    layers: LayerMap = option("last", "Which layers the losses hidden and attention match.")
    relation_heads: int = option(1, "Relation heads of the loss attention.", ge=1)
    split: str = option("train", "Which split of the data to train on; empty: all of it.", panel="Input")
    save_seconds: float = option(30.0, "Save the state for resuming this often.", panel="Output", ge=0)


def settings_of(options: TrainingOptions, seed: int) -> TrainSettings:
    """The training settings among a step's options."""
    names = TrainSettings.__dataclass_fields__.keys() & type(options).model_fields.keys()
    if options.steps is None and options.minutes is None:
        raise UsageError("training has no end", "give --steps N or --minutes M")
    return TrainSettings(**{name: getattr(options, name) for name in names}, seed=seed)


def augment_of(options: AugmentOptions) -> Augment:
    """How the images are changed."""
    from archtool.train.augment import Augment

    return Augment(**{name: getattr(options, name) for name in Augment.__dataclass_fields__})


def step_data(context: Context, state: State, split: str) -> Data:
    """The examples to train on; `UsageError` where the recipe names no data."""
    from archtool.run.inputs import training_data

    if not context.recipe.data:
        raise UsageError("training needs data", "give --data PATH (recipe: data: {path: ...})")
    return training_data(context.recipe, state.checkpoint, split)


def weights_of(options: TrainingOptions, taught: bool) -> Mapping[str, float]:
    """Loss → weight: ``losses`` where it is given, else the task's own and, with a teacher, the distance from it."""
    if options.losses:
        return options.losses
    distance = {"hard" if options.hard else "distillation": options.teacher_weight} if taught else {}
    return {"task": options.task_weight, **distance}


def train_step(
    options: TrainingOptions, state: State, data: Data, context: Context, label: str,
    parent: Checkpoint | None = None, sampling: Sampling | None = None,
) -> tuple[Checkpoint, TrainResult]:  # fmt: skip
    """Train the state's model as the options say.

    Args:
        parent: who teaches where the options name no teacher.
        sampling: which submodels of a nested model are trained.
    """
    from archtool.train.run import train

    lesson = lesson_of(options, data, context, parent)
    settings = LossSettings(options.temperature, options.layers, options.relation_heads, context.seed)
    weights, ours = weights_of(options, lesson is not None), state.checkpoint.architecture
    return train(
        state.checkpoint, data, settings_of(options, context.seed),
        terms=terms_of(weights, data.task, ours, lesson, settings), sampling=sampling,
        seeds=lesson.store.seeds if lesson is not None and lesson.store is not None else None,
        work=context.work, augment=augment_of(options), device=context.device, threads=context.threads,
        progress=context.progress, label=label,
    )  # fmt: skip


def lesson_of(options: TrainingOptions, data: Data, context: Context, parent: Checkpoint | None) -> Lesson | None:
    """Who teaches: the model and the store that the options name, or the parent; None: nobody."""
    from archtool.model.load import load
    from archtool.train.losses import Lesson
    from archtool.train.objectives.teacher import live, weights_hash
    from archtool.train.run import check_inputs
    from archtool.train.store import StoredTeacher

    teacher = load(options.teacher) if options.teacher is not None else parent
    store = None
    if options.teacher_store is not None:
        if options.validation:
            what = "a stored teacher is for all of the data, and validation holds a part of it out"
            raise UsageError(what, "hold it out with the data's own splits")
        store = StoredTeacher(Path(options.teacher_store))
        store.check(data, augment_of(options), "" if teacher is None else weights_hash(teacher))
    if teacher is None:
        return None if store is None else Lesson(store=store)
    check_inputs(teacher, data)
    return Lesson(live(teacher, context.device), teacher.architecture, store)


def trained_state(after: State, result: TrainResult, name: str, context: Context) -> State:
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
