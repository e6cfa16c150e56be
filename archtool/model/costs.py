"""The costs of a checkpoint under the metrics' own names, as budgets and reports use them."""

from __future__ import annotations

from dataclasses import dataclass

from archtool.ir.cost import cost, default_flow
from archtool.model.checkpoint import Checkpoint
from archtool.model.save import planned_size


@dataclass(frozen=True)
class Workload:
    """What one sample is: tokens per sequence (images have their own size)."""

    length: int = 64


def costs(checkpoint: Checkpoint, workload: Workload | None = None) -> dict[str, float]:
    """``parameters``, ``macs``, ``size_bytes`` (files, to the byte), ``memory_bytes``, ``state_bytes``, ``bits``.

    ``memory_bytes`` is weights plus peak activations of one sample plus state; ``bits`` is the mean stored bits
    of a parameter, scales included.
    """
    arch = checkpoint.architecture
    found = cost(arch, checkpoint.plan, default_flow(arch, (workload or Workload()).length))
    size_bytes = planned_size(checkpoint)
    return {
        "parameters": found.parameters,
        "macs": found.macs,
        "size_bytes": size_bytes,
        "memory_bytes": size_bytes + found.activation_bytes + found.state_bytes,
        "state_bytes": found.state_bytes,
        "bits": 8 * stored_bytes(checkpoint) / found.parameters,
    }


def stored_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of all stored tensors in their dtypes, without file headers."""
    from archtool.model.lazy import nbytes

    return sum(nbytes(lazy) for lazy in checkpoint.weights.values())
