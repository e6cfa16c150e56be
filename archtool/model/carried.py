"""What becomes of carried tensors (position numbers, a mask token, old masks) under an edit.

No computation uses them, but a loader that knows them checks their shapes. They follow the axes that the family
gives them; one that cannot follow is left out, never written with stale entries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from archtool.families.registry import family_named
from archtool.ir.axes import dim
from archtool.ir.edit import Step, indices
from archtool.model.checkpoint import Checkpoint, picked
from archtool.model.lazy import Lazy

FLOATS = ("F64", "F32", "F16", "BF16")
_LAYER = re.compile(r"\.\d+\.")


def carried_after(checkpoint: Checkpoint, step: Step) -> Mapping[str, Lazy]:
    """The carried tensors after one structural stage of an edit."""
    kept: dict[str, Lazy] = {}
    for name, lazy in checkpoint.source.carried.items():
        if not step.selections and _LAYER.search(name):
            continue  # dropping a block renumbers the ones after it
        followed = _followed(checkpoint, step, name, lazy)
        if followed is not None:
            kept[name] = followed
    return kept


def _followed(checkpoint: Checkpoint, step: Step, name: str, lazy: Lazy) -> Lazy | None:
    """The tensor on the entries that stay; None where its shape is not that of its axes."""
    arch = step.before
    if not step.selections:
        return lazy
    axes = family_named(arch.family).carried_axes(name, arch)
    chosen = {i: axis for i, axis in enumerate(axes) if axis in step.selections}
    if any(i >= len(lazy.shape) or lazy.shape[i] != arch.size[axis] for i, axis in chosen.items()):
        return None
    picks: list[Sequence[int] | None] = [None] * len(lazy.shape)
    for i, axis in chosen.items():
        kept = indices(dim(axis), arch, step.selections) or ()
        picks[i] = kept if lazy.dtype in FLOATS else range(len(kept))  # integers number the entries themselves
    return picked(lazy, tuple(picks))
