"""Calibration for steps that score units: which data, which loss, where statistics are kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from archtool.curvature.losses import LossName
from archtool.run.step import Context, StepOptions, option

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint
    from archtool.transforms.prune.criteria.base import Evidence


class CalibrationOptions(StepOptions):
    """Options of steps that look at calibration data."""

    samples: int = option(256, "Calibration examples; labels are not needed.", ge=1, panel="Input")
    curvature: LossName = option(
        "auto",
        "Loss whose curvature is measured: task (labels), sampled (labels drawn from the model), projected or "
        "contrast (embeddings).",
    )
    passes: int = option(1, "Passes over the calibration examples, each with other random labels.", ge=1)


def evidence(checkpoint: Checkpoint, options: CalibrationOptions, context: Context) -> Evidence:
    """What criteria may look at; without data in the recipe, nothing but the weights."""
    from archtool.curvature.collect import Collection
    from archtool.evaluate.pooling import Pooling, pool
    from archtool.measure.store import get_default_path
    from archtool.run.inputs import pooling_of, training_data
    from archtool.transforms.prune.criteria.base import Evidence

    return Evidence(
        data=training_data(context.recipe, checkpoint) if context.recipe.data else None,
        collection=Collection(options.samples, options.curvature, options.passes, seed=context.seed),
        embed=partial(pool, pooling=pooling_of(checkpoint) or Pooling()),
        device=context.device, folder=get_default_path().parent / "curvature", progress=context.progress,
    )  # fmt: skip
