"""The costs of a checkpoint under the metrics' own names, as budgets and reports use them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from archtool.ir.cost import cost
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
    found = compute_costs(checkpoint, workload)
    size_bytes = planned_size(checkpoint)
    alive = found.pop("activation_bytes") + found["state_bytes"]
    return {**found, "size_bytes": size_bytes, "memory_bytes": size_bytes + alive,
            "bits": 8 * stored_bytes(checkpoint) / found["parameters"]}  # fmt: skip


def compute_costs(checkpoint: Checkpoint, workload: Workload | None = None) -> dict[str, float]:
    """The costs that need no file to be planned: ``parameters``, ``macs``, ``state_bytes``, ``activation_bytes``."""
    arch = checkpoint.architecture
    found = cost(arch, checkpoint.plan, (workload or Workload()).length)
    return {
        "parameters": found.parameters, "macs": found.macs, "state_bytes": found.state_bytes,
        "activation_bytes": found.activation_bytes,
    }  # fmt: skip


def costs_for(checkpoint: Checkpoint, metrics: Collection[str], workload: Workload | None = None) -> dict[str, float]:
    """Only what ``metrics`` need, for searches that ask very often."""
    if set(metrics) <= {"parameters", "macs", "state_bytes"}:
        return compute_costs(checkpoint, workload)
    return costs(checkpoint, workload)


def stored_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of all stored tensors in their dtypes, without file headers."""
    from archtool.model.lazy import nbytes

    return sum(nbytes(lazy) for lazy in checkpoint.weights.values())
