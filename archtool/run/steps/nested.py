"""Options of steps that train a nested model: what is nested, and which submodels a step of the training runs."""

from dataclasses import replace
from typing import TYPE_CHECKING

from archtool.config.fields import Names, Numbers
from archtool.errors import UsageError
from archtool.run.step import Context, StepOptions, option
from archtool.train.sampling import Rule, Sampling

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint

LEVELS = (0.25, 0.5, 0.75, 1.0)


class NestedOptions(StepOptions):
    """Options of nested training."""

    nested: Names = option(
        (),
        "Train prefixes of these units to be models too: ffn, heads, queries, qk, v, inner, state, rank, width (the "
        "streams), depth (whole blocks). A checkpoint that is nested already stays as it is.",
    )
    levels: Numbers = option((), "With --nested: the parts that they may be cut to, the last 1 [0.25,0.5,0.75,1].")
    sampling: Rule | None = option(
        None, "Which submodels a step runs: every granularity, one at random, largest and smallest and some (which "
        "learn from the largest), several in one batch, one of mixed sizes [all].",
    )  # fmt: skip
    draws: int | None = option(None, "How many mixed submodels sandwich and in-batch draw [2].", ge=1)


def nested_training(
    checkpoint: "Checkpoint", options: NestedOptions, context: Context
) -> "tuple[Checkpoint, Sampling | None]":
    """The checkpoint with its nesting, and how its submodels are drawn; None for a model that is not nested.

    Raises:
        UsageError: options that need each other.
        InputError: a model that has nothing of what is to be nested.
    """
    from archtool.transforms.nesting import nesting_of

    if options.nested and checkpoint.nesting is not None:
        raise UsageError("the model is nested already", "leave --nested out; its own nesting is trained")
    if options.levels and not options.nested:
        raise UsageError("--levels says at which parts --nested units are cut", "give --nested too")
    if options.nested:
        nesting = nesting_of(checkpoint.architecture, options.nested, options.levels or LEVELS)
        checkpoint = replace(checkpoint, nesting=nesting)
    if checkpoint.nesting is None:
        if options.sampling or options.draws:
            raise UsageError("the model is not nested, so it has no submodels to draw", "give --nested too")
        return checkpoint, None
    context.detail(f"nested: {checkpoint.nesting.granularities} granularities, {len(checkpoint.nesting.levels)} axes")
    return checkpoint, Sampling(options.sampling or "all", options.draws or Sampling.draws)
