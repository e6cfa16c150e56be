"""A sub-network on views equals the same selection as a checkpoint, and its gradients reach the parent."""

import pytest
import torch

from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, RefusedEdit, Select
from archtool.model.apply import apply
from archtool.model.views import run, views
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
