"""Random scores: what a criterion has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from archtool.model.checkpoint import Checkpoint
from archtool.transforms.prune.criteria.base import Evidence, Scores


def criterion(checkpoint: Checkpoint, axes: Sequence[str], evidence: Evidence) -> Scores:
    """Uniform in 0..1, by the evidence's seed."""
    import numpy as np

    drawn = np.random.default_rng(evidence.collection.seed)
    return {axis: drawn.random(checkpoint.architecture.size[axis]).tolist() for axis in axes}
