"""A sliced model equals its masked parent, for every axis of every family."""

import pytest
import torch

from archtool.builtins import FAMILIES
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, RefusedEdit, Select
from archtool.ir.table import axes
from archtool.model.apply import apply
from archtool.model.masked import masked_parent
from tests.model.tiny import CONFIGS, inputs, tiny

KEPT_OUTPUT_AXES = ("vocab", "units")


def kept(n: int) -> tuple[int, ...]:
    """About half of the indices, not a prefix; the first two stay (padding ids keep their place)."""
    return (0, 1, *range(3, n, 2)) if n > 4 else tuple(range(1, n, 2))


def selectable(checkpoint):
    arch = checkpoint.architecture
    for axis in axes(arch):
        looked_up = axis in ("channels", "positions") or axis.endswith((".positions", ".types"))
        if arch.size[axis] > 1 and not looked_up:
            yield axis


def compare(checkpoint, edit, dtype="fp32", tolerance=1e-5):
    feed = inputs(checkpoint)
    sliced = apply(checkpoint, edit).module(dtype)
    masked = masked_parent(checkpoint.module(dtype), edit)
    if dtype == "fp64":
        feed = {k: v.double() if v.is_floating_point() else v for k, v in feed.items()}
    chosen = {d.selection.axis: d.selection.keep for d in edit.decisions if isinstance(d, Select)}
    if "vocab" in chosen:
        ids = torch.tensor(chosen["vocab"])
        positions = 2 + feed["input_ids"] % (len(ids) - 2)
        out = sliced(input_ids=positions)
        expected = masked(input_ids=ids[positions])
    else:
        out, expected = sliced(**feed), masked(**feed)
    for name, value in out.items():
        reference = expected[name]
        if reference.shape != value.shape:
            axis = next(a for a in chosen if len(chosen[a]) == value.shape[-1])
            reference = reference[..., list(chosen[axis])]
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
    for place in (p for p in checkpoint.architecture.places if p.layer.name == "ffn"):
        axis = f"{place.name}.hidden"
        edit = Edit("test", (Select(Selection(axis, kept(checkpoint.architecture.size[axis]))),))
        sliced, masked = apply(checkpoint, edit).module("fp64"), masked_parent(checkpoint.module("fp64"), edit)
        x = torch.randint(-3, 4, (2, 5, place.leaving.size(checkpoint.architecture.size))).double()
        relu = type(place.layer.op)(**{**vars(place.layer.op), "act": "relu"})
        one = relu.forward(sliced.get_submodule(place.name), x, None)
        two = relu.forward(masked.get_submodule(place.name), x, None)
        assert torch.equal(one, two)
