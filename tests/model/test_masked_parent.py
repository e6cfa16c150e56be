"""A sliced model equals its masked parent, for every axis of every family."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from archtool.builtins import FAMILIES
from archtool.ir.axes import Selection, kept_indices
from archtool.ir.edit import Drop, Edit, RefusedEdit, Select
from archtool.ir.operator import Flow
from archtool.ir.table import alike, axes, claims
from archtool.model.apply import apply
from archtool.model.masked import masked_parent
from archtool.operators.token_stem import TokenStem
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


def renumbered(arch, feed, chosen):
    """Ids of the kept words of each input's table: as the smaller model counts them, and as the parent does."""
    tables = {
        arch.inputs[0] if not block.inputs else block.inputs[0]: layer.op.vocab
        for block in arch.blocks for layer in block.layers if isinstance(layer.op, TokenStem)
    }  # fmt: skip
    numbers, words = dict(feed), dict(feed)
    for name in feed:
        if tables.get(name) in chosen:
            kept_ids = torch.tensor(chosen[tables[name]].keep)
            numbers[name] = 2 + feed[name] % (len(kept_ids) - 2)
            words[name] = kept_ids[numbers[name]]
    return numbers, words


def together(arch, axis):
    """Selections of the axis and of those that a shared tensor demands with it."""
    keep = kept(arch.size[axis])
    return tuple(Select(Selection(a, keep)) for a in alike(arch).get(axis, (axis,)))


def owners(arch):
    """Layers whose tensors other layers use: they stay."""
    used = {c.spec.storage for c in claims(arch) if c.name != c.spec.storage}
    return {c.place.key for c in claims(arch) if c.name in used}


def stacked(arch):
    """Blocks that belong to a stage."""
    return [block for block in arch.blocks if block.stage]


def compare(checkpoint, edit, dtype="fp32", tolerance=1e-5):
    feed = inputs(checkpoint)
    sliced = apply(checkpoint, edit).module(dtype)
    masked = masked_parent(checkpoint.module(dtype), edit)
    if dtype == "fp64":
        feed = {k: v.double() if v.is_floating_point() else v for k, v in feed.items()}
    chosen = {d.selection.axis: d.selection for d in edit.decisions if isinstance(d, Select)}
    numbers, words = renumbered(checkpoint.architecture, feed, chosen)
    out, expected = sliced(**numbers), masked(**words)
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
    arch = checkpoint.architecture
    for decisions in dict.fromkeys(together(arch, axis) for axis in selectable(checkpoint)):
        compare(checkpoint, Edit("test", decisions))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_all_axes_together(family):
    checkpoint = tiny(family)
    sizes = checkpoint.architecture.size
    decisions = [Select(Selection(a, kept(sizes[a]))) for a in selectable(checkpoint) if "vocab" not in a]
    compare(checkpoint, Edit("test", tuple(decisions)))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_dropped_layers_equal_silenced_ones(family):
    checkpoint = tiny(family)
    for place in checkpoint.architecture.places:
        if place.block.stage and place.layer.residual and place.key not in owners(checkpoint.architecture):
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
        if axis not in sizes or place.layer.op.on_grid or not hasattr(place.layer.op, "act"):
            continue
        edit = Edit("test", (Select(Selection(axis, kept(sizes[axis]))),))
        sliced, masked = apply(checkpoint, edit).module("fp64"), masked_parent(checkpoint.module("fp64"), edit)
        x = torch.randint(-3, 4, (2, 6, place.site.stream.size(sizes))).double()
        relu = replace(place.layer.op, act="relu")
        ctx = SimpleNamespace(flow=Flow(6, (2, 3)))
        one, two = (relu.forward(m.get_submodule(place.name), x, ctx) for m in (sliced, masked))
        assert torch.equal(one, two)
