"""Residual branches of several layers: computed, costed, edited and refused as one."""

from dataclasses import replace

import pytest
import torch

from archtool.errors import InputError
from archtool.ir.codec import from_json, to_json
from archtool.ir.cost import cost
from archtool.ir.edit import Drop, Edit, RefusedEdit
from archtool.ir.validate import validate
from archtool.model.apply import apply
from archtool.model.masked import masked_parent
from archtool.operators.depthwise import DepthwiseConv
from archtool.operators.mlp import Mlp
from archtool.operators.registry import operator_class
from archtool.operators.samples import alone, branch, in_text, on_image, several
from tests.operators.checks import made

FFN = branch(Mlp(act="gelu"), hidden=12)
CONVNEXT = several(alone(DepthwiseConv(kernel=(3, 3))), FFN)
IMAGE = {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}


def named(*layers):
    return [(replace(layer, name=name), sizes) for name, (layer, sizes) in layers]


def changed(arch, block, **layers):
    """The architecture with other fields for some layers of a block."""
    at = arch.block(block)
    new = tuple(replace(layer, **layers.get(layer.name, {})) for layer in at.layers)
    return replace(arch, blocks=tuple(replace(b, layers=new) if b is at else b for b in arch.blocks))


def test_the_residual_adds_what_entered_the_first_layer():
    arch = on_image(CONVNEXT)
    m = made(arch).module()
    seen = {}
    m.b0.op0.conv.register_forward_hook(lambda _, args, out: seen.update(x=args[0], y=out))
    with torch.no_grad():
        got = m(**IMAGE)["hidden"]
        x, y = (t.flatten(2).transpose(1, 2) for t in (seen["x"], seen["y"]))
        inner = m.b0.op1
        hidden = torch.nn.functional.gelu(inner.fc1(inner.pre(y)))
        expected = m.final.norm.pre(x + inner.scale * inner.fc2(hidden))
    assert torch.allclose(got, expected, atol=1e-6)
    assert from_json(type(arch), to_json(arch), operator_class) == arch


def test_dropping_the_last_layer_drops_the_branch():
    checkpoint = made(on_image([*CONVNEXT, named(("after", FFN))[0]], CONVNEXT))
    edit = Edit("test", (Drop("b0", "op1"),))
    small = apply(checkpoint, edit)
    assert [layer.name for layer in small.architecture.block("b0").layers] == ["after"]
    assert not [axis for axis, _ in small.architecture.sizes if axis.startswith("b0.op")]
    with torch.no_grad():
        out, expected = small.module()(**IMAGE), masked_parent(checkpoint.module(), edit)(**IMAGE)
    assert all(torch.allclose(out[name], expected[name], atol=1e-6) for name in out)
    with pytest.raises(RefusedEdit, match="not a residual layer"):
        apply(checkpoint, Edit("test", (Drop("b0", "op0"),)))


def test_a_branch_that_begins_at_a_dropped_layer_begins_at_the_next():
    """x → ffn (residual) → dw → last, where last adds what entered ffn."""
    layers = named(("ffn", FFN), ("dw", alone(DepthwiseConv(kernel=(3, 3)))), ("last", FFN))
    arch = changed(on_image(layers), "b0", last={"since": "ffn"})
    checkpoint, edit = made(arch), Edit("test", (Drop("b0", "ffn"),))
    small = apply(checkpoint, edit)
    assert small.architecture.block("b0").layers[-1].since == "dw"
    with torch.no_grad():
        out, expected = small.module()(**IMAGE), masked_parent(checkpoint.module(), edit)(**IMAGE)
    assert torch.allclose(out["hidden"], expected["hidden"], atol=1e-6)
    crossed = changed(arch, "b0", last={"since": "dw"}, dw={"residual": True, "since": "ffn"})
    with pytest.raises(RefusedEdit, match=r"b0\.last adds what enters dw"):
        apply(made(crossed), Edit("test", (Drop("b0", "dw"),)))


def test_what_begins_nowhere_is_refused_by_name():
    arch = on_image(CONVNEXT)
    for wrong in ({"op1": {"since": "op7"}}, {"op0": {"since": "op1"}}, {"op1": {"residual": False}}):
        with pytest.raises(InputError, match="'b0': the residual of layer"):
            validate(changed(arch, "b0", **wrong))
    narrow = [alone(operator_class("head.dense")(), units=12), alone(operator_class("head.dense")(into="s0.width"))]
    validate(on_image(several(*narrow)))
    with pytest.raises(InputError, match=r"residual adds \(.*units\) to \(s0.width\)"):
        validate(on_image(several(alone(Mlp(act="relu"), hidden=4), narrow[0])))


def test_the_stream_that_waits_is_alive():
    """Between the branch's first and last layer there is one more stream than in a chain without a residual."""
    wide = several(alone(Mlp(act="relu"), hidden=4), branch(Mlp(act="relu"), hidden=400))
    arch = in_text(wide)
    chain = changed(arch, "b0", op1={"since": "", "scale": False})
    extra = cost(arch, length=8).activation_bytes - cost(chain, length=8).activation_bytes
    assert extra == 4 * 8 * 16
