"""``recover``: distillation from the parent after a transform has taken something away.

It is what ``--recover steps=N`` adds after another verb.
"""

from dataclasses import replace

from archtool.errors import UsageError
from archtool.run.step import Context, Estimate, State, Step, option
from archtool.run.steps.training import (
    TrainingOptions,
    step_data,
    train_step,
    trained_state,
    training_estimate,
)


class RecoverOptions(TrainingOptions):
    """Options of ``recover``."""

    lr: float = option(5e-4, "Peak learning rate.", gt=0)
    batch_size: int = option(32, "Examples per forward pass.", ge=1)
    weight_decay: float = option(0.0, "Weight decay of matrices.", ge=0)
    task_weight: float = option(0.0, "Weight of the labels' own loss beside distillation.", ge=0)


class Recover(Step[RecoverOptions]):
    """Trains the current model to answer as the parent does."""

    name = "recover"
    Options = RecoverOptions
    summary = "Distil the parent into the current model (what --recover does after another verb)."
    examples = (
        "archtool prune my-vit/ --budget params=0.5x --data images/ --recover steps=300",
        "archtool run recipe.yaml --set steps.1.recover.steps=300",
    )
    distributed = True
    shared = ("task", "data", "columns", "threads", "device", "require")

    def run(self, state: State, options: RecoverOptions, context: Context) -> State:
        """Distil and return the recovered checkpoint."""
        from archtool.run.assess import same_tokens

        if state.parent is None:
            raise UsageError("recover needs the parent that was changed", "put it after the step that changes")
        if not same_tokens(state.parent, state.checkpoint):
            raise UsageError("recover cannot compare with a parent that reads other tokens", "Recover, then trim.")
        if state.checkpoint.nesting is not None:
            context.log("recover: trains the whole model; its nested submodels are not trained along")
        data = step_data(context, state, options.split)
        checkpoint, result = train_step(options, state, data, context, self.name, state.parent)
        return trained_state(replace(state, checkpoint=checkpoint), result, self.name, context)

    def estimate(self, state: State, options: RecoverOptions) -> Estimate:
        """As for ``train``; the parent's weights come on top."""
        return training_estimate(state)
