"""``train``: train a model on labelled data or text, from random weights or a checkpoint, alone or with a teacher."""

from dataclasses import replace

from archtool.run.step import Context, Estimate, State, Step
from archtool.run.steps.nested import NestedOptions, nested_training
from archtool.run.steps.training import (
    TrainingOptions,
    step_data,
    train_step,
    trained_state,
    training_estimate,
)


class TrainOptions(TrainingOptions, NestedOptions):
    """Options of ``train``."""


class Train(Step[TrainOptions]):
    """Trains the current model with the loss of its task."""

    name = "train"
    Options = TrainOptions
    summary = "Train a model: from a checkpoint, or from scratch in a recipe with model: {build: NAME}."
    examples = (
        "archtool train my-vit/ --data sklearn:digits --steps 500 --lr 2e-3 --out runs/digits",
        "archtool train my-llama/ --data corpus.txt --steps 2000 --optimizer muon --nested ffn,heads --teacher large/",
    )
    distributed = True
    shared = ("task", "data", "columns", "threads", "device", "require")

    def run(self, state: State, options: TrainOptions, context: Context) -> State:
        """Train and return the trained checkpoint; the loss curve is in the records."""
        data = step_data(context, state, options.split)
        nested, sampling = nested_training(state.checkpoint, options, context)
        ready = replace(state, checkpoint=nested)
        checkpoint, result = train_step(options, ready, data, context, self.name, sampling=sampling)
        return trained_state(replace(state, checkpoint=checkpoint, parent=checkpoint), result, self.name, context)

    def estimate(self, state: State, options: TrainOptions) -> Estimate:
        """Memory and disk of weights, gradients and optimizer state; a teacher's weights come on top."""
        return training_estimate(state)
