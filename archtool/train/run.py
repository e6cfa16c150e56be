"""Training of checkpoints: which module, which objective, and what the result is stored as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batch
from archtool.data.dataset import Data
from archtool.errors import InputError
from archtool.model.checkpoint import Checkpoint, from_module
from archtool.progress import SILENT, Progress
from archtool.train.augment import Augment
from archtool.train.loop import TrainResult, fit
from archtool.train.objectives.base import Objective, Term, WeightedSum, task_loss
from archtool.train.objectives.passes import Several
from archtool.train.sampling import Sampling
from archtool.train.settings import TrainSettings

if TYPE_CHECKING:
    from archtool.model.build import Model
    from archtool.model.lazy import Lazy


def train(
    checkpoint: Checkpoint,
    data: Data,
    settings: TrainSettings,
    *,
    terms: Sequence[Term] = (),
    sampling: Sampling | None = None,
    work: Path | None = None,
    augment: Augment | None = None,
    seeds: Callable[[Batch], Any] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress = SILENT,
    label: str = "train",
) -> tuple[Checkpoint, TrainResult]:
    """A trained copy of a checkpoint, in the data types that it is stored in.

    Args:
        terms: what is minimised; none: the loss of the data's task.
        sampling: which submodels of a nested checkpoint are trained; None: the whole model alone.

    Other arguments and errors are those of `archtool.train.loop.fit`; an encoded (quantized) checkpoint is an
    `InputError`.
    """
    refuse_encoded(checkpoint)
    check_inputs(checkpoint, data)
    chosen = tuple(terms) or (Term("task", 1.0, task_loss(data.task)),)
    module = checkpoint.module("fp32")
    result = fit(
        module, _objective(checkpoint, module, chosen, sampling), data, settings,
        work=work, augment=augment, seeds=seeds, device=device, threads=threads, progress=progress, label=label,
    )  # fmt: skip
    return stored_as_before(from_module(checkpoint, module), checkpoint), result


def _objective(
    checkpoint: Checkpoint, module: Model, terms: Sequence[Term], sampling: Sampling | None
) -> Objective | Several:
    if sampling is None:
        return WeightedSum(terms)
    if checkpoint.nesting is None:
        raise InputError("the model is not nested, so it has no submodels to train", "say with --nested what to nest")
    from archtool.model.views import Family
    from archtool.train.objectives.nested import Nested

    return Nested(Family(module, checkpoint.nesting), sampling, terms)


def distillation(parent: Checkpoint, device: str = "cpu", temperature: float = 2.0, weight: float = 1.0) -> Term:
    """The term that pulls a model to its parent."""
    from archtool.train.objectives.distill import Distillation
    from archtool.train.objectives.teacher import live

    return Term("distillation", weight, Distillation(live(parent, device), temperature))


def refuse_encoded(checkpoint: Checkpoint) -> None:
    """`InputError` where tensors are stored as integers, which no gradient reaches."""
    encoded = [name for name, _ in checkpoint.plan.entries]
    if encoded:
        raise InputError(
            f"{len(encoded)} tensors are stored encoded ({encoded[0]}, ...) and cannot be trained",
            "train or recover before quantizing",
        )


def check_inputs(checkpoint: Checkpoint, data: Data) -> None:
    """`InputError` where the data does not give what the model takes: other inputs, image sizes, or more ids."""
    arch = checkpoint.architecture
    missing = [name for name in arch.inputs if name not in data.inputs]
    if missing:
        raise InputError(
            f"the model takes {', '.join(arch.inputs)}; {data.task} data gives {', '.join(data.inputs)}",
            "check --data and --task",
        )
    have, made = arch.size.get("vocab"), data.tokenizer
    if have is not None and made is not None and made.vocabulary_size > have:
        raise InputError(
            f"the tokenizer has {made.vocabulary_size} ids and the model knows {have}",
            "use the model's own tokenizer, or build a model with a larger vocab_size",
        )
    if "image_height" in arch.fact and len(data):
        _check_image(checkpoint, data)
    if "past_values" in arch.inputs and len(data):
        _check_series(checkpoint, data)


def _check_image(checkpoint: Checkpoint, data: Data) -> None:
    arch = checkpoint.architecture
    wanted = (arch.size["channels"], arch.fact["image_height"], arch.fact["image_width"])
    given = tuple(data.inputs["pixel_values"].take(data.rows[:1])[0].shape)
    if given != wanted:
        raise InputError(
            f"images are {' x '.join(map(str, given))} and the model takes {' x '.join(map(str, wanted))} "
            "(channels x height x width)",
            "state data.preprocess: size and channels",
        )


def _check_series(checkpoint: Checkpoint, data: Data) -> None:
    import numpy as np

    from archtool.data.batches import Batches
    from archtool.evaluate.fits import check_inputs as check_batch

    check_batch(checkpoint.architecture, Batches(data, 1).batch(np.zeros(1, dtype=np.int64)).inputs)


def stored_as_before(trained: Checkpoint, original: Checkpoint) -> Checkpoint:
    """The trained tensors in the data types of the original ones."""
    from archtool.checkpoint.dtypes import torch_dtype
    from archtool.model.lazy import Held, load

    weights: Mapping[str, Lazy] = {
        name: Held(load(lazy).to(torch_dtype(original.weights[name].dtype))) for name, lazy in trained.weights.items()
    }
    return replace(trained, weights=weights)
