"""How far encoded tensors are from what they encode: ‖decoded − original‖ ÷ ‖original‖ (Frobenius), streamed."""

from __future__ import annotations

from functools import partial
from math import prod

from archtool.model.ahead import ahead
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import Lazy, by_rows

BLOCK_NUMEL = 2**20
"""Numbers that are compared at a time, where rows can be read singly."""


def relative_errors(before: Checkpoint, after: Checkpoint) -> dict[str, float]:
    """Storage id → relative error, for every tensor that ``after`` encodes and both hold in one shape."""
    return {name: relative_error(before.tensor(name), after.tensor(name)) for name, _ in after.plan.entries}


def relative_error(original: Lazy, decoded: Lazy) -> float:
    """The relative error of one tensor; 0 for a tensor of zeros."""
    count, columns = original.shape[0], max(1, prod(original.shape[1:]))
    step = max(1, BLOCK_NUMEL // columns) if by_rows(original) and by_rows(decoded) else max(1, count)
    starts = range(0, count, step)
    difference = energy = 0.0
    for off, size in ahead(partial(_sums, original, decoded, start, min(start + step, count)) for start in starts):
        difference += off
        energy += size
    return (difference / energy) ** 0.5 if energy else 0.0


def _sums(original: Lazy, decoded: Lazy, start: int, stop: int) -> tuple[float, float]:
    """Squared norms of the difference and of the original, on some rows."""
    exact = original.rows(start, stop).double()
    return float((decoded.rows(start, stop).double() - exact).square().sum()), float(exact.square().sum())
