"""Folding every norm of some kinds: BatchNorm into the convolution or linear layer before it, gains into those after.

Exact in evaluation (Jacob et al. 2018, section 3.2). Training after it has no batch statistics. What cannot be folded
is noted with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from archtool.errors import UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.edit import Edit, Fold, RefusedEdit
from archtool.ir.edit import fold as folded_architecture
from archtool.ir.fold import folding
from archtool.ir.parts import Norm
from archtool.registry import suggestion
from archtool.transforms.units import protected_tensors

KINDS = ("batch", "layer", "rms", "group")


def fold_edit(arch: Architecture, kinds: Sequence[str] = ("batch",), protect: Sequence[str] = ()) -> Edit:
    """The edit that folds every norm of these kinds that can be, without those that touch a protected tensor.

    Raises:
        UsageError: an unknown kind, or a model without such a norm.
        RefusedEdit: none of the norms can be folded; the message names the first with the reason.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise UsageError(f"unknown kind of norm {unknown[0]!r}", suggestion(unknown[0], KINDS))
    kept, decisions, notes = protected_tensors(arch, protect), [], []
    norms = [
        Fold(place.block.name, place.layer.name, part.name)
        for place in arch.places for part in place.parts if isinstance(part, Norm) and part.kind in kinds
    ]  # fmt: skip
    if not norms:
        raise UsageError(f"the model has no {' or '.join(kinds)} norm", "archtool inspect lists its layers.")
    for norm in norms:
        found = folding(arch, norm.block, norm.layer, norm.norm)
        if not isinstance(found, str) and any(_inside(kept, prefix) for prefix in (found.name, *found.into)):
            found = "protected"
        if isinstance(found, str):
            notes.append((f"{norm.block}.{norm.layer}.{norm.norm}", found))
            continue
        decisions.append(norm)
        arch, _ = folded_architecture(arch, norm)
    if not decisions:
        name, reason = notes[0]
        raise RefusedEdit(f"none of {len(notes)} norms can be folded: {name}: {reason}", "Fold another kind of norm.")
    return Edit("fold", tuple(decisions), notes=tuple(notes))


def _inside(names: frozenset[str], prefix: str) -> bool:
    return any(name.startswith(f"{prefix}.") for name in names)
