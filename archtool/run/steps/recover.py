"""``recover``: distillation from the parent after a transform has taken something away.

It is what ``--recover steps=N`` adds after another verb.
"""

from dataclasses import replace

from archtool.errors import UsageError
from archtool.run.step import Context, Estimate, State, Step, StepOptions, option
from archtool.run.steps.train import settings_of, step_data, trained_state, training_estimate


class RecoverOptions(StepOptions):
    """Options of ``recover``."""

    steps: int | None = option(None, "Optimizer steps.", panel="Budget", ge=1)
    minutes: float | None = option(None, "Wall-clock limit; not repeatable to the bit.", panel="Budget", gt=0)
    lr: float = option(5e-4, "Peak learning rate of AdamW.", gt=0)
    batch_size: int = option(32, "Examples per forward pass.", ge=1)
    accumulate: int = option(1, "Forward passes per optimizer step.", ge=1)
    weight_decay: float = option(0.0, "Weight decay of matrices.", ge=0)
    temperature: float = option(2.0, "Softens the parent's distribution.", gt=0)
    task_weight: float = option(0.0, "Weight of the labels' own loss beside distillation.", ge=0)
    shift: int = option(0, "Move training images by up to so many pixels.", ge=0)
    split: str = option("train", "Which split of the data to use; empty: all of it.", panel="Input")
    save_seconds: float = option(30.0, "Save the state for resuming this often.", panel="Output", ge=0)


class Recover(Step[RecoverOptions]):
    """Trains the current model to answer as the parent does."""

    name = "recover"
    Options = RecoverOptions
    summary = "Distil the parent into the current model (what --recover does after another verb)."
    examples = (
        "archtool prune my-vit/ --budget params=0.5x --data images/ --recover steps=300",
        "archtool run recipe.yaml --set steps.1.recover.steps=300",
    )
    shared = ("task", "data", "columns", "threads", "device", "require")

    def run(self, state: State, options: RecoverOptions, context: Context) -> State:
        """Distil and return the recovered checkpoint."""
        from archtool.train.augment import Augment
        from archtool.train.objectives.base import Term, task_loss
        from archtool.train.run import distillation, train

        if state.parent is None:
            raise UsageError("recover needs the parent that was changed", "put it after the step that changes")
        if state.checkpoint.nesting is not None:
            context.log("recover: trains the whole model; its nested submodels are not trained along")
        data = step_data(context, state, options.split)
        terms = [distillation(state.parent, context.device, options.temperature)]
        if options.task_weight:
            terms.append(Term(data.task, options.task_weight, task_loss(data.task)))
        checkpoint, result = train(
            state.checkpoint, data, settings_of(options, context.seed), terms=terms,
            work=context.work, augment=Augment(options.shift),
            device=context.device, threads=context.threads, progress=context.progress, label=self.name,
        )  # fmt: skip
        return trained_state(replace(state, checkpoint=checkpoint), result, self.name, context)

    def estimate(self, state: State, options: RecoverOptions) -> Estimate:
        """As for ``train``; the parent's weights come on top."""
        return training_estimate(state)
