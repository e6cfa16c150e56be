"""What becomes of carried tensors (position numbers, a mask token, old masks) under an edit.

No computation uses them, but a loader that knows them checks their shapes. They follow the axes that the family
gives them, and the module in which they stand beside tensors of the model (BatchNorm's counter); one that cannot
follow is left out, never written with stale entries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from archtool.families.registry import family_named
from archtool.ir.architecture import Architecture
from archtool.ir.axes import dim
from archtool.ir.edit import Step, indices
from archtool.ir.table import stored
from archtool.model.checkpoint import Checkpoint, picked
from archtool.model.lazy import Lazy

FLOATS = ("F64", "F32", "F16", "BF16")
_LAYER = re.compile(r"\.\d+\.")


def carried_after(checkpoint: Checkpoint, step: Step) -> Mapping[str, Lazy]:
    """The carried tensors after one structural stage of an edit."""
    kept: dict[str, Lazy] = {}
    before, after = (_modules(arch) if checkpoint.source.carried else {} for arch in (step.before, step.after))
    homes = {module: after[piece] for piece, module in before.items() if piece in after}
    for name, lazy in checkpoint.source.carried.items():
        module, _, leaf = name.rpartition(".")
        if module in before.values():
            place = f"{homes[module]}.{leaf}" if module in homes else ""
        else:  # dropping a block renumbers the ones after it
            place = name if step.selections or step.folding or not _LAYER.search(name) else ""
        followed = _followed(checkpoint, step, name, lazy) if place else None
        if followed is not None:
            kept[place] = followed
    return kept


def under_known_names(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint; under no family, without what is carried, where its family has no names for all tensors."""
    arch = checkpoint.architecture
    if set(_modules(arch)) == set(stored(arch)):
        return checkpoint
    source = replace(checkpoint.source, carried={})
    return replace(checkpoint, architecture=replace(arch, family=""), source=source)


def _modules(arch: Architecture) -> dict[str, str]:
    """Storage id → the module of the file in which the tensor stands."""
    entries = family_named(arch.family).names(arch)
    return {piece: entry.file.rpartition(".")[0] for entry in entries for piece in entry.pieces}


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
