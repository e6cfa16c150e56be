"""What a criterion is: a function from a checkpoint, axes and evidence to a score per unit; the least go first.

Scores of one criterion are comparable between axes: the exact allocation adds them up. Where a criterion can, they are
the predicted increase of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.curvature.collect import Collection
from archtool.progress import SILENT, Progress
from archtool.registry import load

if TYPE_CHECKING:
    from archtool.curvature.losses import Embed
    from archtool.data import Data
    from archtool.model.checkpoint import Checkpoint

Scores = dict[str, list[float]]
"""Axis → a score per unit."""


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at.

    Attributes:
        data: calibration examples to draw from; None: there are none.
        collection: how many, with which loss and seed.
        embed: how outputs become embeddings, for models that give no logits.
        device: where gradients are computed.
        folder: where statistics are kept; None: nowhere.
        progress: who is told.
    """

    data: Data | None = None
    collection: Collection = field(default_factory=Collection)
    embed: Embed | None = None
    device: str = "cpu"
    folder: Path | None = None
    progress: Progress = SILENT


Criterion = Callable[["Checkpoint", Sequence[str], Evidence], Scores]


def criterion(name: str) -> Criterion:
    """The criterion of a name; `UsageError` lists the names."""
    found: Any = load("criteria", name)
    return found  # type: ignore[no-any-return]
