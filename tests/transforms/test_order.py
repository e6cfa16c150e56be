"""Ordering units by importance: the function stays, on every family and axis that allows it."""

import pytest
import torch

from archtool.ir.table import alike
from archtool.model.apply import apply
from archtool.transforms.extract.order import order_edit, orders, output_axes, reordered
from archtool.transforms.units import KINDS, WIDTH, unit_axes
from archtool.transforms.widths import ranked
from tests.model.tiny import CONFIGS, inputs, tiny


def random_scores(arch, axes):
    """Distinct scores that put no axis in the order that it has."""
    generator = torch.Generator().manual_seed(0)
    rows = {axis: torch.rand(arch.size[axis], generator=generator).tolist() for axis in axes}
    return {axis: row[::-1] if row == sorted(row, reverse=True) else row for axis, row in rows.items()}


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_the_function_stays(family):
    checkpoint = tiny(family)
    arch = checkpoint.architecture
    feed = {k: v.double() if v.is_floating_point() else v for k, v in inputs(checkpoint).items()}
    before = checkpoint.module("fp64")(**feed)
    axes = unit_axes(arch, [*KINDS, WIDTH])
    groups = list(dict.fromkeys(alike(arch).get(axis, (axis,)) for axis in axes))
    for group in [*groups, axes]:
        edit = order_edit(arch, random_scores(arch, group))
        moved, noted = set(orders(edit)), {name for name, _ in edit.notes}
        assert moved | noted == set(group) and not moved & noted
        assert noted <= output_axes(arch) | {axis for axis in group if axis.endswith(".width")}, edit.notes
        after = apply(checkpoint, edit).module("fp64")(**feed)
        for name, value in before.items():
            assert torch.allclose(after[name], value, rtol=1e-6, atol=1e-9), (group, name)


def test_best_units_come_first_and_tied_axes_move_alike():
    arch = tiny("t5").architecture
    axes = unit_axes(arch, ["heads", "ffn"])
    scores = random_scores(arch, axes)
    edit = order_edit(arch, scores)
    found = orders(edit)
    tied = next(group for group in alike(arch).values() if group[0] in found)
    assert len(tied) > 1 and len({tuple(found[axis]) for axis in tied}) == 1
    free = next(axis for axis in axes if axis not in alike(arch))
    assert list(found[free]) == ranked(scores)[free]
    assert reordered(found, scores)[free] == sorted(scores[free], reverse=True)


def test_units_in_order_stay():
    arch = tiny("bert").architecture
    assert order_edit(arch, {"b0.ffn.hidden": [40.0 - i for i in range(40)]}).decisions == ()


def test_an_output_keeps_its_order():
    arch = tiny("bert").architecture
    (axis,) = unit_axes(arch, ["width"])
    edit = order_edit(arch, random_scores(arch, [axis]))
    assert edit.decisions == () and edit.notes == ((axis, "keeps its order: it is the order of an output"),)
