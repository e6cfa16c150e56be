"""Mask Fisher: the predicted increase of the loss when a unit is removed (Kwon et al. 2022; LeCun et al. 1990).

``½ F_u`` with the per-sample Fisher of a mask of ones (`archtool.curvature.moments`), on calibration data that needs no
labels. The score of a unit that tied axes have in common is shared equally between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from archtool.curvature.collect import collect
from archtool.curvature.moments import Moments, batch_fisher, fisher, increase
from archtool.errors import UsageError
from archtool.ir.table import alike
from archtool.model.checkpoint import Checkpoint
from archtool.transforms.prune.criteria.base import Evidence, Scores


def criterion(checkpoint: Checkpoint, axes: Sequence[str], evidence: Evidence) -> Scores:
    """``½ F_u`` of each unit; `UsageError` without data."""
    return _shared(checkpoint, {axis: increase(fisher(m)).tolist() for axis, m in _found(checkpoint, axes, evidence)})


def batch_criterion(checkpoint: Checkpoint, axes: Sequence[str], evidence: Evidence) -> Scores:
    """NViT's: half the squares of sums over batches (Yang et al. 2023, eq. 4)."""
    found = {axis: increase(batch_fisher(m)).tolist() for axis, m in _found(checkpoint, axes, evidence)}
    return _shared(checkpoint, found)


def block_scores(checkpoint: Checkpoint, blocks: Sequence[str], evidence: Evidence) -> dict[str, float]:
    """``½ F`` of a mask on all residual branches of a block at once: what dropping it is predicted to cost."""
    return {name: float(increase(fisher(m))[0]) for name, m in _found(checkpoint, blocks, evidence)}


def _found(checkpoint: Checkpoint, axes: Sequence[str], evidence: Evidence) -> list[tuple[str, Moments]]:
    if evidence.data is None:
        raise UsageError("the criterion needs calibration data", "Give --data FILE; labels are not used.")
    module = checkpoint.module("fp32").to(evidence.device)
    found = collect(
        module, evidence.data, axes, evidence.collection,
        embed=evidence.embed, device=evidence.device, folder=evidence.folder, progress=evidence.progress,
    )  # fmt: skip
    return list(found.items())


def _shared(checkpoint: Checkpoint, scores: Scores) -> Scores:
    groups = alike(checkpoint.architecture)
    return {axis: [s / len(groups.get(axis, (axis,))) for s in row] for axis, row in scores.items()}
