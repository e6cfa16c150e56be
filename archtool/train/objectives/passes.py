"""Objectives that need several forward and backward passes in a step, one after the other.

Each pass is differentiated before the next one begins, so that the activations of only one are held. Their gradients
add up; so do their losses.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from archtool.data.batches import Batch
from archtool.train.objectives.base import Objective

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Pass(NamedTuple):
    """One forward pass: named losses with their total under ``loss``, and a line for the journal with its ``loss``."""

    losses: "Mapping[str, Tensor]"
    line: Mapping[str, Any] | None = None


@runtime_checkable
class Several(Protocol):
    """An objective of several passes."""

    def passes(self, module: "nn.Module", batch: Batch, generator: "torch.Generator") -> Iterator[Pass]:
        """The passes of a step; the loop takes each one's gradient before it asks for the next."""
        ...

    def summary(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """What the journal's lines of a whole run come to."""
        ...


def passes_of(
    objective: "Objective | Several", module: "nn.Module", batch: Batch, generator: "torch.Generator"
) -> Iterator[Pass]:
    """The passes of any objective."""
    if isinstance(objective, Several):
        yield from objective.passes(module, batch, generator)
    else:
        yield Pass(objective(module, batch, generator))
