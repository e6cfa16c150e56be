"""How far encoded tensors are from what they encode: ‖decoded − original‖ ÷ ‖original‖ (Frobenius), streamed."""

from __future__ import annotations

from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import Lazy

ROWS = 4096


def relative_errors(before: Checkpoint, after: Checkpoint) -> dict[str, float]:
    """Storage id → relative error, for every tensor that ``after`` encodes and both hold in one shape."""
    return {name: relative_error(before.tensor(name), after.tensor(name)) for name, _ in after.plan.entries}


def relative_error(original: Lazy, decoded: Lazy) -> float:
    """The relative error of one tensor; 0 for a tensor of zeros."""
    difference = energy = 0.0
    for start in range(0, original.shape[0], ROWS):
        stop = min(start + ROWS, original.shape[0])
        exact = original.rows(start, stop).double()
        difference += float((decoded.rows(start, stop).double() - exact).square().sum())
        energy += float(exact.square().sum())
    return (difference / energy) ** 0.5 if energy else 0.0
