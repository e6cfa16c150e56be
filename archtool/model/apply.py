"""Applying an `Edit` to a checkpoint: pure, lazy, the same for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.ir.edit import Edit, Fold, RefusedEdit, Step, indices, outcome, steps
from archtool.ir.encodings import Affine, Dense, Encoding
from archtool.ir.nesting_after import nesting_after
from archtool.ir.parts import TensorSpec
from archtool.ir.table import shape, stored
from archtool.model.carried import carried_after, under_known_names
from archtool.model.checkpoint import Checkpoint, encoded_weights, leaf_name, picked
from archtool.model.fold import folded_weights
from archtool.model.lazy import Held, Lazy

if TYPE_CHECKING:
    from torch import Tensor


Picks = tuple[Sequence[int] | None, ...]


def apply(checkpoint: Checkpoint, edit: Edit, delta: Mapping[str, Tensor] | None = None) -> Checkpoint:
    """The edited checkpoint; nothing is computed until its weights are read.

    Args:
        delta: new values for the tensors that ``edit.delta`` names.

    Raises:
        RefusedEdit: the axis table or an encoding does not allow the edit.
    """
    stages = steps(checkpoint.architecture, edit)
    after, plan = outcome(checkpoint.architecture, checkpoint.plan, edit, stages)
    current = checkpoint
    for step in stages:
        current = _structural(current, step)
    current = _with_values(current, edit, delta or {})
    weights: dict[str, Lazy] = {}
    specs = stored(current.architecture)
    for storage in stored(after):
        dims = shape(specs[storage], current.architecture)
        weights.update(_stored_as(current, storage, dims, plan.of(storage)))
    done = replace(current, architecture=after, plan=plan, weights=weights)
    return under_known_names(done) if any(isinstance(d, Fold) for d in edit.decisions) else done


def _structural(checkpoint: Checkpoint, step: Step) -> Checkpoint:
    before, weights = stored(step.before), folded_weights(checkpoint, step) if step.folding else {}
    for storage in stored(step.after):
        if storage in weights:
            continue
        source = step.copies.get(storage, storage)
        picks = tuple(indices(d, step.before, step.selections) for d in before[source].dims)
        found = _selected(checkpoint, source, before[source], picks)
        weights.update({storage + leaf.removeprefix(source): lazy for leaf, lazy in found.items()})
    travels = replace(checkpoint.source, carried=carried_after(checkpoint, step))
    return Checkpoint(step.after, step.plan(checkpoint.plan), weights, travels, nesting_after(checkpoint.nesting, step))


def _selected(checkpoint: Checkpoint, storage: str, spec: TensorSpec, picks: Picks) -> dict[str, Lazy]:
    encoding = checkpoint.plan.of(storage)
    if isinstance(encoding, Dense):
        return {storage: picked(checkpoint.weights[storage], picks)}
    leaves = encoding.leaves(shape(spec, checkpoint.architecture))
    names = [leaf_name(storage, leaf) for leaf in leaves]
    if all(p is None for p in picks):
        return {name: checkpoint.weights[name] for name in names}
    columns = _flat(picks[1:], shape(spec, checkpoint.architecture)[1:])
    if not (isinstance(encoding, Affine) and encoding.group == 0 and encoding.bits == 8) and columns is not None:
        raise RefusedEdit(
            f"{storage} is stored as {encoding.bits if isinstance(encoding, Affine) else ''}-bit groups: "
            "columns cannot be selected exactly",
            "Prune before quantizing, or start from the dense checkpoint.",
        )
    return {
        name: picked(checkpoint.weights[name], (picks[0], columns if name.endswith("_q") else None)) for name in names
    }


def _flat(picks: Picks, sizes: tuple[int, ...]) -> list[int] | None:
    """Selections of all dimensions but the first, as columns of the matrix that is stored."""
    if all(p is None for p in picks):
        return None
    columns = [0]
    for chosen, size in zip(picks, sizes, strict=True):
        columns = [base * size + i for base in columns for i in (range(size) if chosen is None else chosen)]
    return columns


def _with_values(checkpoint: Checkpoint, edit: Edit, delta: Mapping[str, Tensor]) -> Checkpoint:
    missing = [name for name in edit.delta if name not in delta]
    if missing:
        raise InputError(f"the edit's delta lacks {', '.join(missing)}", "Give edit.safetensors with edit.json.")
    held = {name: Held(delta[name]) for name in edit.delta}
    plan = checkpoint.plan.with_entries({name: Dense() for name in held})
    return replace(checkpoint, plan=plan, weights={**checkpoint.weights, **held})


def _stored_as(checkpoint: Checkpoint, storage: str, dims: tuple[int, ...], encoding: Encoding) -> dict[str, Lazy]:
    now = checkpoint.plan.of(storage)
    if now == encoding:
        names = [leaf_name(storage, leaf) for leaf in now.leaves(dims)]
        return {name: checkpoint.weights[name] for name in names}
    dense = checkpoint.tensor(storage)
    return {storage: dense} if isinstance(encoding, Dense) else encoded_weights(storage, dense, encoding)
