"""Magnitude: a unit's score is the L2 norm of all weights that belong to it (Han et al. 2015; Li et al. 2017).

The simplest criterion there is, and the baseline of all others. It needs no data. Every tensor that carries the
axis counts (the rows that produce a unit and the columns that consume it), each read once, in blocks of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archtool.checkpoint.values import check_finite
from archtool.ir.axes import Dim, owners
from archtool.ir.parts import Kind, Role, TensorSpec
from archtool.ir.table import claims
from archtool.model.ahead import one_thread_per_operation
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import blocks
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor


def scores(checkpoint: Checkpoint, axes: Sequence[str], progress: Progress = SILENT) -> dict[str, list[float]]:
    """Axis → the squared norm of each of its units (summed over tensors, float32)."""
    import torch

    arch = checkpoint.architecture
    energy = {axis: torch.zeros(arch.size[axis]) for axis in axes}
    work = _work(checkpoint, axes)
    with one_thread_per_operation(), progress.phase("score", len(work)) as phase:
        for storage, spec in work.items():
            for axis, added in _tensor_energy(checkpoint, storage, spec, energy).items():
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


def _tensor_energy(
    checkpoint: Checkpoint, storage: str, spec: TensorSpec, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Axis → energy of this tensor's entries per unit, streamed over blocks of rows."""
    import torch

    rows_E = []
    columns_E: dict[int, Tensor] = {}
    needs_rows = _carries(spec.dims[0], wanted) and spec.roles[0] is not Role.INDEX
    others = [i for i in range(1, len(spec.dims)) if _carries(spec.dims[i], wanted)]
    for block in blocks(checkpoint.tensor(storage)):
        check_finite(block, storage)
        wide = block.float()
        squared = wide.square() if wide is block else wide.square_()
        if needs_rows:
            rows_E.append(squared.reshape(len(squared), -1).sum(1))
        for i in others:
            summed = squared.sum([d for d in range(squared.dim()) if d != i])
            columns_E[i] = columns_E[i] + summed if i in columns_E else summed
    per_dimension = {0: torch.cat(rows_E)} if rows_E else {}
    return _by_axis(checkpoint, spec, per_dimension | columns_E, wanted)


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
