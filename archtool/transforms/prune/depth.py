"""Dropping whole blocks: those that add least to the stream, by the norm of what writes to it.

The simplest depth criterion without data, a baseline for measured ones. A block's score is the squared norm of the
tensors that produce its outgoing stream, per channel of that stream, so that blocks of narrow and wide stages compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archtool.checkpoint.values import check_finite
from archtool.errors import UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.edit import Drop, Edit, RefusedEdit, drop
from archtool.ir.parts import Role
from archtool.ir.table import claims
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import blocks
from archtool.progress import SILENT, Progress
from archtool.transforms.units import protected_tensors


def block_scores(checkpoint: Checkpoint, protect: Sequence[str] = (), progress: Progress = SILENT) -> dict[str, float]:
    """Block → score, for the blocks of all stages that hold no protected tensor."""
    arch = checkpoint.architecture
    kept = protected_tensors(arch, protect)
    fixed = {c.place.block.name for c in claims(arch) if c.spec.storage in kept}
    found = {block.name: 0.0 for stage in arch.stages.values() for block in stage if block.name not in fixed}
    writers = [
        c for c in claims(arch)
        if c.place.block.name in found and c.spec.roles[0] is Role.PRODUCES and c.spec.dims[0] == c.place.leaving
    ]  # fmt: skip
    with progress.phase("score blocks", len(writers)) as phase:
        for claim in writers:
            width = claim.place.leaving.size(arch.size)
            found[claim.place.block.name] += _energy(checkpoint, claim.spec.storage) / width
            phase.advance(1, claim.name)
    return found


def _energy(checkpoint: Checkpoint, storage: str) -> float:
    total = 0.0
    for block in blocks(checkpoint.tensor(storage)):
        check_finite(block, storage)
        total += float(block.float().square().sum())
    return total


def drop_weakest(arch: Architecture, scores: Mapping[str, float], count: int) -> Edit:
    """An edit without the ``count`` blocks of lowest score; every stage keeps a block.

    A block that cannot be dropped (others use its tensors) is passed over.

    Raises:
        UsageError: the architecture does not have ``count`` such blocks.
    """
    before = sum(map(len, arch.stages.values()))
    dropped: list[str] = []
    order = sorted(scores, key=lambda name: scores[name])
    while len(dropped) < count:
        after = next(((name, made) for name in order if (made := _without(arch, name))), None)
        if after is None:
            hint = "Every stage keeps a block; protected blocks and those whose tensors others use stay."
            raise UsageError(f"cannot drop {count} of {before} blocks: {len(dropped)} can go", hint)
        dropped.append(after[0])
        arch = after[1]
    notes = tuple((name, f"score {scores[name]:.6g}") for name in dropped)
    return Edit("depth", tuple(map(Drop, dropped)), notes=notes)


def _without(arch: Architecture, name: str) -> Architecture | None:
    """The architecture without a block; None where it is the last of its stage, or not there, or is needed."""
    if name not in arch.index or len(arch.stage(arch.block(name).stage)) == 1:
        return None
    try:
        return drop(arch, Drop(name))
    except RefusedEdit:
        return None
