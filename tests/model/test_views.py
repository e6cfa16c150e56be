"""A sub-network on views equals the same selection as a checkpoint, and its gradients reach the parent."""

import pytest
import torch

from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, RefusedEdit, Select
from archtool.ir.nesting import uniform
from archtool.model.apply import apply
from archtool.model.views import Family, run, views
from archtool.train.sampling import axis_groups, mix
from archtool.transforms.nesting import nesting_of
from archtool.transforms.units import unit_axes
from tests.model.tiny import CONFIGS, inputs, tiny


def prefixes(checkpoint, kinds=("ffn", "heads", "queries", "qk", "v")):
    """The first two thirds of every axis, and of the stream."""
    sizes = checkpoint.architecture.size
    axes = [*unit_axes(checkpoint.architecture, kinds), "s0.width"]
    return {a: Selection(a, tuple(range(max(1, sizes[a] * 2 // 3)))) for a in axes}


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_views_equal_the_extracted_model(family):
    checkpoint = tiny(family)
    chosen, feed = prefixes(checkpoint), inputs(checkpoint)
    extracted = apply(checkpoint, Edit("t", tuple(map(Select, chosen.values())))).module()
    model = checkpoint.module()
    with torch.no_grad():
        small, expected = run(model, views(model, chosen), **feed), extracted(**feed)
    for name, value in expected.items():
        assert torch.allclose(small[name], value, atol=1e-5, rtol=1e-5), name


def test_a_prefix_is_a_view_and_gradients_reach_the_parent():
    checkpoint = tiny("llama")
    model, axis = checkpoint.module(), "b1.ffn.hidden"
    small = views(model, {axis: Selection(axis, tuple(range(10)))})
    up = model.get_parameter("b1.ffn.up.weight")
    assert small["b1.ffn.up.weight"].data_ptr() == up.data_ptr()
    run(model, small, **inputs(checkpoint))["logits"].sum().backward()
    assert up.grad[:10].abs().sum() > 0 and up.grad[10:].abs().sum() == 0
    assert model.get_parameter("b0.ffn.up.weight").grad.abs().sum() > 0


def test_selections_that_the_table_refuses_are_refused_here_too():
    with pytest.raises(RefusedEdit):
        views(tiny("vit").module(), {"embed.patches.positions": Selection("embed.patches.positions", (0, 1))})


FAMILIES = ("vit", "bert", "llama")
KINDS = [("ffn",), ("heads",), ("ffn", "heads"), ("width",), ("depth",), ("ffn", "heads", "width", "depth")]


def close(mine, theirs):
    """1e-6 relative to the largest entry."""
    return (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_submodel_equals_its_extracted_checkpoint(family, kinds):
    checkpoint = tiny(family)
    nesting = nesting_of(checkpoint.architecture, kinds, (0.25, 0.5, 0.75, 1.0))
    model, feed = checkpoint.module(), inputs(checkpoint)
    compiled, rng = Family(model, nesting), torch.Generator().manual_seed(0)
    members = [uniform(nesting, i) for i in range(nesting.granularities)]
    members += [mix(nesting, axis_groups(nesting, checkpoint.architecture), rng) for _ in range(4)]
    whole = model(**feed)
    for submodel in members:
        extracted = apply(checkpoint, submodel.edit(checkpoint.architecture, "t"))
        assert len(extracted.architecture.blocks) == len(checkpoint.architecture.blocks) - len(submodel.skipped)
        with torch.no_grad(), compiled.member(submodel).running():
            small, expected = model(**feed), extracted.module()(**feed)
        assert all(close(small[name], value) for name, value in expected.items())
        if kinds == ("depth",):
            assert all(torch.equal(small[name], value) for name, value in expected.items())
    assert all(torch.equal(model(**feed)[name], value) for name, value in whole.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_a_submodel_are_those_of_the_extracted_one_and_stay_in_its_prefix(family):
    checkpoint = tiny(family)
    nesting = nesting_of(checkpoint.architecture, ("ffn", "heads", "width", "depth"), (0.5, 1.0))
    submodel, feed = uniform(nesting, 0), inputs(checkpoint)
    model = checkpoint.module()
    small = apply(checkpoint, submodel.edit(checkpoint.architecture, "t")).module()
    sum(value.square().sum() for value in small(**feed).values()).backward()
    with Family(model, nesting).member(submodel).running():
        sum(value.square().sum() for value in model(**feed).values()).backward()
    wanted = dict(small.named_parameters())
    for name, p in model.named_parameters():
        if name not in wanted:
            assert p.grad is None and name.partition(".")[0] in submodel.skipped
            continue
        mine, theirs = p.grad, wanted[name].grad
        inside = tuple(slice(n) for n in theirs.shape)
        assert (mine[inside] - theirs).abs().max() <= 1e-5 * theirs.abs().max() + 1e-7, name
        outside = mine.clone()
        outside[inside] = 0
        assert not outside.any(), name


def test_a_cut_that_is_no_range_is_gathered_and_learns_too():
    checkpoint = tiny("llama")
    nesting = nesting_of(checkpoint.architecture, ("v",), (0.5, 1.0))
    submodel, feed = uniform(nesting, 0), inputs(checkpoint)
    model = checkpoint.module()
    member = Family(model, nesting).member(submodel)
    assert any(piece.view is None for piece in member.pieces)
    small = apply(checkpoint, submodel.edit(checkpoint.architecture, "t")).module()
    small(**feed)["logits"].sum().backward()
    with member.running():
        model(**feed)["logits"].sum().backward()
    grad, theirs = model.get_parameter("b0.attn.v.weight").grad, small.get_parameter("b0.attn.v.weight").grad
    kept = grad.reshape(2, 6, -1)[:, :3].reshape(theirs.shape)
    assert torch.allclose(kept, theirs, rtol=1e-4, atol=1e-6) and not grad.reshape(2, 6, -1)[:, 3:].any()


ALL = ("ffn", "heads", "queries", "qk", "v", "inner", "state", "rank", "width")


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_submodels_of_every_family_run_on_views(family):
    checkpoint = tiny(family)
    nesting = nesting_of(checkpoint.architecture, ALL, (0.5, 1.0))
    model, feed, submodel = checkpoint.module(), inputs(checkpoint), uniform(nesting, 0)
    extracted = apply(checkpoint, submodel.edit(checkpoint.architecture, "t")).module()
    with torch.no_grad(), Family(model, nesting).member(submodel).running():
        small, expected = model(**feed), extracted(**feed)
    for name, value in expected.items():
        assert torch.allclose(small[name], value, atol=1e-5, rtol=1e-5), name


def test_a_family_follows_its_module_to_another_type():
    """Moving a module replaces its buffers; a member puts back what stood there when it began."""
    checkpoint = tiny("llama")
    nesting = nesting_of(checkpoint.architecture, ("ffn", "heads", "qk"), (0.5, 1.0))
    submodel, feed, model = uniform(nesting, 0), inputs(checkpoint), checkpoint.module()
    member = Family(model, nesting).member(submodel)
    assert any(piece.slot.name.endswith("frequencies") or not piece.slot.trained for piece in member.pieces)
    model.double()
    with member.running():
        small = model(**feed)["logits"]
    expected = apply(checkpoint, submodel.edit(checkpoint.architecture, "t")).module().double()(**feed)["logits"]
    assert torch.allclose(small, expected, rtol=1e-6, atol=1e-6)
    assert all(value.dtype == torch.float64 for value in (*model.parameters(), *model.buffers()))
