"""Whom a model learns from: the outputs of another model on the same batch, computed once for all losses."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from archtool.data.batches import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.model.checkpoint import Checkpoint


@runtime_checkable
class Teacher(Protocol):
    """Outputs to be matched.

    Attributes:
        identity: a hash of what decides them.
    """

    identity: str

    def outputs(self, batch: Batch) -> "Mapping[str, Tensor]":
        """The teacher's outputs on a batch, without gradients."""
        ...

    def look_at(self, names: Iterable[str]) -> None:
        """Have these places (`archtool.model.capture`) among the outputs from now on."""
        ...


class LiveTeacher:
    """A model that runs beside the one that is trained; it is put into eval mode and never changed."""

    def __init__(self, module: "nn.Module", identity: str = "") -> None:
        self.module, self.identity = module.eval().requires_grad_(False), identity
        self._places: set[str] = set()
        self._last: tuple[Batch, Mapping[str, Tensor]] | None = None

    def look_at(self, names: Iterable[str]) -> None:
        """See `Teacher`."""
        self._places.update(names)

    def outputs(self, batch: Batch) -> "Mapping[str, Tensor]":
        """See `Teacher`; the last batch is remembered."""
        import torch

        if self._last is None or self._last[0] is not batch:
            with torch.no_grad():
                self._last = batch, watched(self.module, batch, self._places)
        return self._last[1]


def watched(module: Any, batch: Batch, places: "set[str]") -> "dict[str, Tensor]":
    """The outputs of a forward pass, with what passes at ``places`` under their names."""
    from archtool.model.capture import capturing

    with capturing(module, places) as seen:
        outputs = module(**batch.inputs)
    return {**outputs, **seen}


def teacher_of(parent: "nn.Module | Teacher") -> Teacher:
    """A teacher as it is, a module as one that runs."""
    return parent if isinstance(parent, Teacher) else LiveTeacher(parent)


def live(checkpoint: "Checkpoint", device: str = "cpu") -> LiveTeacher:
    """A checkpoint as a teacher, known by the hash of its weights."""
    return LiveTeacher(checkpoint.module("fp32").to(device), weights_hash(checkpoint))


def weights_hash(checkpoint: "Checkpoint") -> str:
    """A hash of the architecture and every stored tensor."""
    import torch

    from archtool.model.lazy import load

    digest = hashlib.sha256(repr(checkpoint.architecture).encode())
    for name, lazy in sorted(checkpoint.weights.items()):
        tensor = load(lazy).contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
