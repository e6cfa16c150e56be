"""Units by importance: an axis permuted so that its best units come first, which every prefix then keeps.

The function of the model stays the same (a permutation edit, `Selection` with all indices). Axes that a shared tensor
ties are permuted alike. Where the axis table does not allow it, or the order of an axis is that of an output, the axis
stays as it is and is noted. Source: MatFormer (Devvrit et al. 2023) nests prefixes; that sorting by importance is
what makes a pretrained model's prefixes useful is Once-for-all's (Cai et al. 2020, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from archtool.errors import InputError
from archtool.ir.architecture import Architecture
from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select, select
from archtool.ir.table import alike
from archtool.transforms.units import joined
from archtool.transforms.widths import ranked

METHOD = "order"


def order_edit(arch: Architecture, scores: Mapping[str, Sequence[float]]) -> Edit:
    """The edit that puts the units of each axis in order, highest score first; what stays is in its notes."""
    order, groups = ranked(joined(arch, scores)), alike(arch)
    shown = output_axes(arch)
    decisions: list[Select] = []
    notes: list[tuple[str, str]] = []
    for group in dict.fromkeys(groups.get(axis, (axis,)) for axis in scores):
        if order[group[0]] == list(range(arch.size[group[0]])):
            continue
        chosen = {axis: Selection(axis, tuple(order[group[0]])) for axis in group}
        reason = next((_SHOWN for axis in group if axis in shown), "") or _refused(arch, chosen)
        if reason:
            notes.extend((axis, f"keeps its order: {reason}") for axis in group)
        else:
            decisions.extend(Select(s, tuple(scores[axis])) for axis, s in chosen.items())
    return Edit(METHOD, tuple(decisions), notes=tuple(notes))


_SHOWN = "it is the order of an output"


def output_axes(arch: Architecture) -> frozenset[str]:
    """The axes of what leaves the graph."""
    leaving = {place.block.name: place.leaving for place in arch.places}
    return frozenset(axis for _, block in arch.outputs for axis in leaving[block].axes())


def _refused(arch: Architecture, chosen: Mapping[str, Selection]) -> str:
    """Why a selection is not allowed; empty where it is."""
    try:
        select(arch, chosen)
    except InputError as problem:
        return problem.what
    return ""


def reordered(order: Mapping[str, Sequence[int]], scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The scores after the axes of ``order`` were permuted."""
    return {axis: [row[i] for i in order.get(axis, range(len(row)))] for axis, row in scores.items()}


def orders(edit: Edit) -> dict[str, Sequence[int]]:
    """Axis → the permutation that an order edit says."""
    return dict(_orders(edit))


def _orders(edit: Edit) -> Iterator[tuple[str, Sequence[int]]]:
    for decision in edit.decisions:
        if isinstance(decision, Select):
            yield decision.selection.axis, decision.selection.flat()
