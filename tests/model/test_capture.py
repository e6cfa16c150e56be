"""What passes inside a model, taken out by the names of its places."""

import pytest
import torch

from archtool.config.preset import build_model
from archtool.errors import InputError
from archtool.ir.axes import Selection
from archtool.model import views
from archtool.model.capture import attentions, capturing, streams

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit():
    return build_model("vit-digits", 0).module().eval()


def test_streams_and_parts_are_those_of_the_pass(vit):
    first, second = (place.key for place in streams(vit.architecture)[:2])
    block = second.partition(".")[0]
    attention = f"{block}.attn"
    with torch.no_grad(), capturing(vit, (first, second, attention, f"{attention}.q", f"{block}.ffn.fc2")) as seen:
        outputs = vit(pixel_values=X)
    layer = vit.get_submodule(attention)
    with torch.no_grad():
        assert torch.allclose(seen[f"{attention}.q"], layer.q(layer.pre(seen[first])), atol=1e-6)
        assert torch.allclose(seen[second], seen[attention] + seen[f"{block}.ffn.fc2"], atol=1e-6)
        assert torch.equal(outputs["logits"], vit(pixel_values=X)["logits"])
    assert seen[first].shape == seen[second].shape and len(seen) == 5


def test_nothing_is_left_behind_and_gradients_flow(vit):
    last = streams(vit.architecture)[-1].key
    with capturing(vit, (last,)) as seen:
        vit(pixel_values=X)
    before = seen[last]
    vit(pixel_values=X + 1)
    assert seen[last] is before
    before.square().mean().backward()
    assert vit.get_parameter("embed.patches.patches.weight").grad.abs().max() > 0
    vit.zero_grad()


def test_sub_networks_show_their_own_widths(vit):
    place = attentions(vit.architecture)[0]
    axis = f"{place.name}.qk"
    small = {axis: Selection(axis, (0, 1))}
    with torch.no_grad(), capturing(vit, (f"{place.key}.q",)) as seen:
        views.run(vit, views.views(vit, small), pixel_values=X)
    heads = vit.architecture.size[f"{place.name}.kv"] * vit.architecture.size[f"{place.name}.group"]
    assert seen[f"{place.key}.q"].shape[-1] == 2 * heads


def test_each_call_of_shared_tensors_has_its_own_place():
    from dataclasses import replace

    from archtool.export.reference import reference_inputs
    from archtool.ir.architecture import Layer
    from archtool.model.build import build
    from archtool.operators.mlp import Mlp
    from archtool.operators.samples import on_image

    arch = on_image([(Layer("ffn", Mlp()), {"hidden": 6})], [(Layer("ffn", Mlp()), {"hidden": 6})])
    blocks = tuple(replace(b, share="b0") if b.name == "b1" else b for b in arch.blocks)
    sizes = tuple((axis, n) for axis, n in arch.sizes if not axis.startswith("b1."))
    model = build(replace(arch, blocks=blocks, sizes=sizes))
    with torch.no_grad(), capturing(model, ("b0.ffn", "b1.ffn", "b1.ffn.fc1")) as seen:
        model(**reference_inputs(model.architecture))
        assert torch.allclose(seen["b1.ffn.fc1"], model.get_submodule("b0.ffn.fc1")(seen["b0.ffn"]), atol=1e-6)
    assert not torch.equal(seen["b0.ffn"], seen["b1.ffn"])


@pytest.mark.parametrize("name", ["b9.attn", "b0.attn.x", "b0", "logits"])
def test_unknown_places_are_refused(vit, name):
    with pytest.raises(InputError, match=f"no {name} to look at"), capturing(vit, (name,)):
        pass
