"""Magnitude: a unit's score is the L2 norm of all weights that belong to it (Han et al. 2015; Li et al. 2017).

The simplest criterion there is, and the baseline of all others. It needs no data. Every tensor that carries the
axis counts (the rows that produce a unit and the columns that consume it), each read once, in blocks of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from archtool.checkpoint.values import check_finite
from archtool.ir.axes import Dim, owners
from archtool.ir.parts import Kind, Role, TensorSpec
from archtool.ir.table import claims
from archtool.model.ahead import ahead, then
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import jobs
from archtool.progress import SILENT, Progress
from archtool.transforms.prune.criteria.base import Evidence, Scores

if TYPE_CHECKING:
    from torch import Tensor


def criterion(checkpoint: Checkpoint, axes: Sequence[str], evidence: Evidence) -> Scores:
    """The squared norm of each unit."""
    return scores(checkpoint, axes, evidence.progress)


def scores(checkpoint: Checkpoint, axes: Sequence[str], progress: Progress = SILENT) -> dict[str, list[float]]:
    """Axis → the squared norm of each of its units (summed over tensors, float32)."""
    import torch

    arch = checkpoint.architecture
    energy = {axis: torch.zeros(arch.size[axis]) for axis in axes}
    work = _work(checkpoint, axes)
    made = {storage: _jobs(checkpoint, storage, spec, energy) for storage, spec in work.items()}
    with progress.phase("score", len(work)) as phase, closing(ahead(chain.from_iterable(made.values()))) as ready:
        for storage, spec in work.items():
            per_dimension = _summed(islice(ready, len(made[storage])))
            for axis, added in _by_axis(checkpoint, spec, per_dimension, energy).items():
                energy[axis] += added
            phase.advance(1, storage)
    return {axis: values.tolist() for axis, values in energy.items()}


def _work(checkpoint: Checkpoint, axes: Sequence[str]) -> dict[str, TensorSpec]:
    """Tensors that carry one of the axes, each once."""
    wanted = set(axes)
    found: dict[str, TensorSpec] = {}
    for claim in claims(checkpoint.architecture):
        used = {axis for d in claim.spec.dims for axis in d.axes()}
        if claim.spec.kind is Kind.PARAMETER and used & wanted:
            found.setdefault(claim.spec.storage, claim.spec)
    return found


def _jobs(
    checkpoint: Checkpoint, storage: str, spec: TensorSpec, wanted: Mapping[str, Tensor]
) -> list[Callable[[], dict[int, Tensor]]]:
    """What sums the squares of a tensor's blocks of rows over all dimensions but one, for each that counts."""
    kept = [i for i, d in enumerate(spec.dims) if _carries(d, wanted) and (i or spec.roles[0] is not Role.INDEX)]
    return [then(job, partial(_energy, kept, storage)) for job in jobs(checkpoint.tensor(storage))]


def _energy(kept: Sequence[int], storage: str, block: Tensor) -> dict[int, Tensor]:
    """Kept dimension → sums over the others; the values are looked at only where a sum tells of a bad one."""
    import torch

    wide = block.float()
    squared = wide.square() if wide is block else wide.square_()
    found = {i: squared.sum([d for d in range(squared.dim()) if d != i]) for i in kept if i}
    if 0 in kept:
        found[0] = squared.reshape(len(squared), -1).sum(1)
    if not found or not all(bool(torch.isfinite(sums).all()) for sums in found.values()):
        check_finite(block, storage)
    return found


def _summed(blocks: Iterable[dict[int, Tensor]]) -> dict[int, Tensor]:
    """Kept dimension → energy of the whole tensor; blocks of rows follow each other."""
    import torch

    rows_E = []
    total: dict[int, Tensor] = {}
    for found in blocks:
        rows_E += [found.pop(0)] if 0 in found else []
        total = {i: total[i] + sums for i, sums in found.items()} if total else found
    return {0: torch.cat(rows_E)} | total if rows_E else total


def _carries(dimension: Dim, wanted: Mapping[str, Tensor]) -> bool:
    return any(axis in wanted for axis in dimension.axes())


def _by_axis(
    checkpoint: Checkpoint, spec: TensorSpec, energy: Mapping[int, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    import torch

    sizes = checkpoint.architecture.size
    found: dict[str, Tensor] = {}
    for i, flat in energy.items():
        for axis in {a for a in spec.dims[i].axes() if a in wanted}:
            index = torch.tensor(owners(spec.dims[i], sizes, axis))
            mine = index >= 0
            total = torch.zeros(sizes[axis]).index_add_(0, index[mine], flat[mine])
            found[axis] = found[axis] + total if axis in found else total
    return found
