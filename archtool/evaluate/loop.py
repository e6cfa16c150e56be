"""What every task shares: running batches, reading outputs, and refusing numbers that are not finite."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.errors import InputError
from archtool.evaluate.fits import check_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.evaluate.registry import Settings


@contextmanager
def evaluating(*modules: "nn.Module") -> Iterator[None]:
    """Eval mode and no gradients inside; every sub-module's mode is restored afterwards.

    Not ``inference_mode``: buffers that a model caches inside would be unusable for training later.
    """
    import torch

    training = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in training:
            part.training = mode


def outputs_of(module: "nn.Module", settings: "Settings", name: str) -> "Iterator[tuple[Batch, Mapping[str, Tensor]]]":
    """Each batch with the model's outputs; ``name`` is what progress shows."""
    architecture = getattr(module, "architecture", None)
    with settings.progress.phase(name, total=len(settings.batches.data)) as phase:
        for batch in settings.batches:
            if architecture is not None:
                check_inputs(architecture, batch.inputs)
            yield batch, module(**batch.inputs)
            phase.advance(len(batch.positions))


def output(outputs: "Mapping[str, Tensor]", name: str, task: str) -> "Tensor":
    """One output; `InputError` says what the model gives instead."""
    if name not in outputs:
        have = ", ".join(outputs) or "nothing"
        raise InputError(f"the model gives {have}; {task} needs {name}", "choose a task that fits the model")
    return outputs[name]


def target(batch: Batch, name: str, task: str) -> "Tensor":
    """One target; `InputError` for unlabelled data."""
    if name not in batch.targets:
        raise InputError(f"the data has no {name}; {task} needs them", "give labelled data")
    return batch.targets[name]


def check_labels(labels_B: "Tensor", classes: int) -> None:
    """Class ids must be below the model's number of classes, else `InputError`."""
    highest = int(labels_B.max())
    if highest >= classes:
        what = f"label {highest} in the data, and the model has {classes} classes"
        raise InputError(what, "check --data and the order of its classes")


def check_finite(values: "Tensor", what: str, batch: Batch) -> None:
    """`InputError` naming the first example whose values (one row per example) are not finite."""
    import torch

    bad_B = ~torch.isfinite(values).reshape(len(batch.positions), -1).all(1)
    if bad_B.any():
        example = int(batch.positions[bad_B.cpu()].min())
        count = int(bad_B.sum())
        where = f"example {example} of the data ({count} of {len(bad_B)} in its batch)"
        raise InputError(f"{what} is not finite at {where}", "look for NaN or overflow in the weights")
