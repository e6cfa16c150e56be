"""From a checkpoint to a nested one, and what each of its levels is worth beside plain prefixes; for ``nest``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archtool.run.step import Context, State

if TYPE_CHECKING:
    from archtool.ir.edit import Edit
    from archtool.ir.nesting import Submodel
    from archtool.model.checkpoint import Checkpoint
    from archtool.run.steps.nest import NestOptions
    from archtool.transforms.prune.criteria.base import Evidence

PLAIN, ORDERED, NESTED = "plain prefix", "in order", "nested"
"""What a level is measured as: cut from the model as it was, from the ordered one, and after training."""


@dataclass(frozen=True)
class Nested:
    """A checkpoint with its units in order and its nesting.

    Attributes:
        checkpoint: the function of the original.
        edit: the permutation.
        levels: the submodels of the asked fractions, smallest first.
        fractions: those, ascending.
        notes: axes that keep their order, with the reason.
    """

    checkpoint: Checkpoint
    edit: Edit
    levels: tuple[Submodel, ...]
    fractions: tuple[float, ...]
    notes: tuple[tuple[str, str], ...]


def nested_order(checkpoint: Checkpoint, options: NestOptions, context: Context) -> Nested:
    """Score the units, put them in order, and say which prefixes are nested."""
    from archtool.model.apply import apply
    from archtool.run.steps.evidence import evidence
    from archtool.transforms.extract.order import order_edit, orders, reordered
    from archtool.transforms.nested_levels import allocated_levels, fraction_levels
    from archtool.transforms.nesting import DEPTH, nesting_of
    from archtool.transforms.prune.criteria.base import criterion
    from archtool.transforms.units import joined, unit_axes

    arch, seen = checkpoint.architecture, evidence(checkpoint, options, context)
    kinds = [kind for kind in options.units if kind != DEPTH]
    axes = unit_axes(arch, kinds, context.recipe.protect)
    scores = joined(arch, criterion(options.criterion)(checkpoint, axes, seen)) if axes else {}
    depth = _depth(checkpoint, options, seen, context) if DEPTH in options.units else ()
    edit = order_edit(arch, scores)
    nesting = nesting_of(arch, options.units, options.levels, options.multiple, depth, context.recipe.protect)
    levels = fraction_levels(nesting, arch, options.levels, options.multiple)
    if options.allocation == "exact":
        kept = {name for name, reason in edit.notes}
        sorted_rows = {axis: row for axis, row in reordered(orders(edit), scores).items() if axis not in kept}
        nesting, levels = allocated_levels(nesting, levels, arch, sorted_rows, options.levels, options.multiple)
    child = replace(apply(checkpoint, edit), nesting=nesting)
    return Nested(child, edit, levels, tuple(options.levels), edit.notes)


def _depth(checkpoint: Checkpoint, options: NestOptions, seen: Evidence, context: Context) -> tuple[str, ...]:
    """The blocks in the order in which they go: least loss first where there is data, else least written first."""
    from archtool.transforms.nesting import droppable
    from archtool.transforms.prune.criteria.fisher import block_scores as fisher_scores
    from archtool.transforms.prune.depth import block_scores

    by_weights = options.criterion in ("magnitude", "random")
    free = block_scores(checkpoint, context.recipe.protect, context.progress)
    names = [name for name in droppable(checkpoint.architecture) if name in free]
    scores = free if by_weights else fisher_scores(checkpoint, names, seen)
    return tuple(sorted(names, key=lambda name: scores[name]))


def level_records(original: Checkpoint, made: Nested, after: State, context: Context) -> list[dict[str, Any]]:
    """Each level: its share, sizes, costs, and its quality three ways where the recipe has data.

    Args:
        original: as it was.
        made: in order.
        after: with the nested checkpoint, assessed: the whole is not measured again.
    """
    from archtool.model.apply import apply
    from archtool.model.costs import Workload, costs
    from archtool.transforms.nested_levels import block_parameters

    arch = made.checkpoint.architecture
    sides = {PLAIN: original, ORDERED: made.checkpoint, NESTED: after.checkpoint}
    if after.checkpoint is made.checkpoint:
        del sides[NESTED]
    found = []
    for fraction, level in zip(made.fractions, made.levels, strict=True):
        edit = level.edit(arch, "level")
        small = {name: apply(side, edit) for name, side in sides.items()}
        child = small[ORDERED]
        found.append({
            "fraction": fraction,
            "counts": dict(level.counts),
            "skipped": list(level.skipped),
            "block_parameters": block_parameters(child.architecture),
            "costs": costs(child, Workload(context.recipe.length)),
            "metrics": _qualities(small, context) if context.recipe.data and fraction < 1 else _whole(sides, after),
        })  # fmt: skip
    return found


def _whole(sides: Mapping[str, Checkpoint], after: State) -> dict[str, Any]:
    """The quality of the whole model, as it was assessed; an order changes nothing."""
    if "data" not in after.records:
        return {}
    own, before = (after.records[which]["metrics"] for which in ("child", "parent"))
    judged = {name: value for name, value in own.items() if not name.startswith("agreement_")}
    return {side: judged if side == NESTED else before for side in sides}


def _qualities(small: Mapping[str, Checkpoint], context: Context) -> dict[str, Any]:
    from archtool.run.assess import loaded, measured
    from archtool.run.inputs import evaluation_data

    data = evaluation_data(context.recipe, next(iter(small.values())))
    return {name: measured(loaded(c, context), data, c, context) for name, c in small.items()}


def level_metrics(levels: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """``spearman_at_0.6`` and so on: the metrics of every level but the whole."""
    return {
        f"{name}_at_{level['fraction']:g}": entry["value"]
        for level in levels[:-1] for name, entry in _best(level["metrics"]).items()
    }  # fmt: skip


def _best(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the nested model; of the ordered one where it was not trained."""
    found: Mapping[str, Any] = metrics.get(NESTED, metrics.get(ORDERED, {}))
    return found


def search_record(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The levels as points of a search, for the report; empty where nothing was measured."""
    name = next(iter(_best(levels[-1]["metrics"])), None)
    if name is None:
        return {}
    first = _best(levels[-1]["metrics"])[name]
    points = [
        {
            "name": f"{level['fraction']:g}, {side}",
            "role": "front" if metrics is _best(level["metrics"]) else side,
            "quality": metrics[name]["value"],
            "costs": {cost: level["costs"][cost] for cost in ("parameters", "macs", "size_bytes")},
        }
        for level in levels for side, metrics in level["metrics"].items()
    ]  # fmt: skip
    return {"search": {"quality_name": name, "higher_is_better": first["higher_is_better"], "candidates": points}}
