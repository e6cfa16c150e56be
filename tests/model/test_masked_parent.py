"""A sliced model equals its masked parent, for every axis of every family."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from archtool.builtins import FAMILIES
from archtool.ir.axes import Selection, kept_indices
from archtool.ir.edit import Drop, Edit, RefusedEdit, Select
from archtool.ir.operator import Flow
from archtool.ir.table import axes
from archtool.model.apply import apply
from archtool.model.masked import masked_parent
from tests.model.tiny import CONFIGS, inputs, tiny


def kept(n: int) -> tuple[int, ...]:
    """About half of the indices, not a prefix; the first two stay (padding ids keep their place)."""
    return (0, 1, *range(3, n, 2)) if n > 4 else tuple(range(1, n, 2))


def selectable(checkpoint):
    arch = checkpoint.architecture
    fixed = {
        place.site.axis(local) for place in arch.places if place.layer.op
        for local, edits in place.layer.op.local_axes.items() if "select" not in edits
    }  # fmt: skip
    for axis in axes(arch):
        looked_up = axis in ("channels", "positions") or axis.endswith(".types")
        if arch.size[axis] > 1 and not looked_up and axis not in fixed:
            yield axis


def compare(checkpoint, edit, dtype="fp32", tolerance=1e-5):
    feed = inputs(checkpoint)
    sliced = apply(checkpoint, edit).module(dtype)
    masked = masked_parent(checkpoint.module(dtype), edit)
    if dtype == "fp64":
        feed = {k: v.double() if v.is_floating_point() else v for k, v in feed.items()}
    chosen = {d.selection.axis: d.selection for d in edit.decisions if isinstance(d, Select)}
    if "vocab" in chosen:
        ids = torch.tensor(chosen["vocab"].keep)
        positions = 2 + feed["input_ids"] % (len(ids) - 2)
        out = sliced(input_ids=positions)
        expected = masked(input_ids=ids[positions])
    else:
        out, expected = sliced(**feed), masked(**feed)
    arch = checkpoint.architecture
    leaving = {place.block.name: place.leaving for place in arch.places}
    for name, block in arch.outputs:
        value, reference = out[name], expected[name]
        if reference.shape != value.shape:
            channels = next(i for i, n in enumerate(value.shape) if reference.shape[i] != n)
            kept_channels = torch.tensor(kept_indices(leaving[block], arch.size, chosen))
            reference = reference.index_select(channels, kept_channels)
        if tolerance == 0:
            assert torch.equal(value, reference), name
        else:
            scale = reference.abs().max().clamp_min(1.0)
            assert (value - reference).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_axis_alone(family):
    checkpoint = tiny(family)
    for axis in selectable(checkpoint):
        keep = kept(checkpoint.architecture.size[axis])
        compare(checkpoint, Edit("test", (Select(Selection(axis, keep)),)))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_all_axes_together(family):
    checkpoint = tiny(family)
    sizes = checkpoint.architecture.size
    decisions = [Select(Selection(a, kept(sizes[a]))) for a in selectable(checkpoint) if a != "vocab"]
    compare(checkpoint, Edit("test", tuple(decisions)))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_dropped_layers_equal_silenced_ones(family):
    checkpoint = tiny(family)
    for place in checkpoint.architecture.places:
        if place.block.stage and place.layer.residual:
            compare(checkpoint, Edit("test", (Drop(place.block.name, place.layer.name),)))


def test_every_family_is_tested():
    assert set(CONFIGS) == set(FAMILIES)


def test_selection_per_head():
    checkpoint = tiny("llama")
    keep = ((0, 2), (1, 2))
    edit = Edit("test", (Select(Selection("b1.attn.pairs", keep, per="b1.attn.kv")),))
    compare(checkpoint, edit)
    edit = Edit("test", (Select(Selection("b1.attn.v", keep, per="b1.attn.kv")), Select(Selection("b1.attn.kv", (1,)))))
    compare(checkpoint, edit)


def test_the_test_bites():
    """Another selection than the one masked must differ."""
    checkpoint = tiny("llama")
    one = Edit("test", (Select(Selection("b1.ffn.hidden", tuple(range(20)))),))
    two = Edit("test", (Select(Selection("b1.ffn.hidden", tuple(range(1, 21)))),))
    feed = inputs(checkpoint)
    difference = (
        apply(checkpoint, one).module()(**feed)["logits"] - masked_parent(checkpoint.module(), two)(**feed)["logits"]
    )
    assert difference.abs().max() > 1e-2


def test_unknown_axis_is_refused_by_name():
    with pytest.raises(RefusedEdit, match=r"b9\.ffn\.hidden"):
        apply(tiny("llama"), Edit("test", (Select(Selection("b9.ffn.hidden", (0,))),)))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_linear_path_is_bit_exact_in_float64_on_integers(family):
    """Integer weights: selecting ffn units changes no bit up to the first norm after it."""
    checkpoint = tiny(family, integers=True)
    for place in checkpoint.architecture.places:
        axis, sizes = f"{place.name}.hidden", checkpoint.architecture.size
        if axis not in sizes or not hasattr(place.layer.op, "act"):
            continue
        edit = Edit("test", (Select(Selection(axis, kept(sizes[axis]))),))
        sliced, masked = apply(checkpoint, edit).module("fp64"), masked_parent(checkpoint.module("fp64"), edit)
        x = torch.randint(-3, 4, (2, 6, place.site.stream.size(sizes))).double()
        relu = replace(place.layer.op, act="relu")
        ctx = SimpleNamespace(flow=Flow(6, (2, 3)))
        one, two = (relu.forward(m.get_submodule(place.name), x, ctx) for m in (sliced, masked))
        assert torch.equal(one, two)
