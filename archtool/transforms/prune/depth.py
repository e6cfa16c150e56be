"""Dropping whole blocks: those that add least to the stream, by the norm of what writes to it.

The simplest depth criterion without data, a baseline for measured ones. A block's score is the squared norm of the
tensors that produce its outgoing stream, over that of all its tensors' inputs of the same stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from archtool.checkpoint.values import check_finite
from archtool.errors import UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.edit import Drop, Edit
from archtool.ir.parts import Role
from archtool.ir.table import claims
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import blocks
from archtool.progress import SILENT, Progress
from archtool.transforms.units import protected_tensors


def block_scores(
    checkpoint: Checkpoint, stage: str = "s0", protect: Sequence[str] = (), progress: Progress = SILENT
) -> dict[str, float]:
    """Block → squared norm of the tensors that write to the stream.

    Blocks with a protected tensor, or with one that another block uses, have none.
    """
    arch = checkpoint.architecture
    kept = protected_tensors(arch, protect)
    fixed = {c.place.block.name for c in claims(arch) if c.spec.storage in kept} | lenders(arch)
    found = {block.name: 0.0 for block in arch.stage(stage) if block.name not in fixed}
    writers = [
        c for c in claims(arch)
        if c.place.block.name in found and c.spec.roles[0] is Role.PRODUCES and c.spec.dims[0] == c.place.leaving
    ]  # fmt: skip
    with progress.phase("score blocks", len(writers)) as phase:
        for claim in writers:
            energy = _energy(checkpoint, claim.spec.storage)
            found[claim.place.block.name] += energy
            phase.advance(1, claim.name)
    return found


def lenders(arch: Architecture) -> set[str]:
    """Blocks that own a tensor which another block uses."""
    owner: dict[str, str] = {}
    for claim in claims(arch):
        owner.setdefault(claim.name, claim.place.block.name)
    used = ((owner[c.spec.storage], c.place.block.name) for c in claims(arch))
    return {mine for mine, theirs in used if mine != theirs}


def _energy(checkpoint: Checkpoint, storage: str) -> float:
    total = 0.0
    for block in blocks(checkpoint.tensor(storage)):
        check_finite(block, storage)
        total += float(block.float().square().sum())
    return total


def drop_weakest(scores: dict[str, float], count: int, blocks: int = 0) -> Edit:
    """An edit without the ``count`` blocks of lowest score, of a stage of ``blocks`` (0: all are scored)."""
    blocks = blocks or len(scores)
    if not 0 <= count < blocks:
        raise UsageError(f"cannot drop {count} of {blocks} blocks", "Leave at least one.")
    if count > len(scores):
        raise UsageError(f"cannot drop {count} blocks: only {len(scores)} are not protected", "Protect fewer blocks.")
    weakest = sorted(scores, key=lambda name: scores[name])[:count]
    notes = tuple((name, f"score {scores[name]:.6g}") for name in weakest)
    return Edit("depth", tuple(Drop(name) for name in scores if name in weakest), notes=notes)
