"""Norms folded into weights: exact on every family, refused by name where they are not, and nothing left behind."""

import json
from dataclasses import replace

import pytest
import torch

from archtool.errors import UsageError
from archtool.ir.architecture import Layer, NormSpec
from archtool.ir.codec import from_json, to_json
from archtool.ir.cost import cost
from archtool.ir.diff import diff as differences
from archtool.ir.edit import Edit, Encode, Fold, RefusedEdit
from archtool.ir.encodings import Affine
from archtool.ir.parts import Norm
from archtool.model.apply import apply
from archtool.model.build import build
from archtool.model.checkpoint import of_module
from archtool.model.lazy import Held, load
from archtool.model.load import load as read
from archtool.model.save import save
from archtool.operators.conv import GridConv
from archtool.operators.mbconv import MBConv
from archtool.operators.mlp import Mlp
from archtool.operators.registry import operator_class
from archtool.operators.samples import in_text, on_image
from archtool.transforms.fold.norms import KINDS, fold_edit
from tests.model.tiny import CONFIGS, inputs, tiny

BATCH = NormSpec("batch")


def norms(arch, *kinds):
    return [f"{p.key}.{n.name}" for p in arch.places for n in p.parts if isinstance(n, Norm) and n.kind in kinds]


def difference(before, after, dtype):
    """Largest difference over all outputs, in units of the largest value where that is above 1."""
    feed = {k: v.double() if dtype == "fp64" and v.is_floating_point() else v for k, v in inputs(before).items()}
    with torch.no_grad():
        one, two = before.module(dtype)(**feed), after.module(dtype)(**feed)
    return max(float((two[k] - v).abs().max() / v.abs().max().clamp_min(1.0)) for k, v in one.items())


def in_double(checkpoint):
    return replace(checkpoint, weights={name: Held(load(lazy).double()) for name, lazy in checkpoint.weights.items()})


def lively(arch, seed=0):
    """A checkpoint of an architecture with every tensor moved off its initial value."""
    model, generator = build(arch, seed, std=0.3), torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.numel() and (tensor.requires_grad or "running" in name):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.5)
    return of_module(model)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_norm_that_can_be_is_folded_exactly(family):
    checkpoint = tiny(family)
    arch = checkpoint.architecture
    present = [kind for kind in KINDS if norms(arch, kind)]
    try:
        edit = fold_edit(arch, present)
    except RefusedEdit as refused:
        assert "the stream after the norm is also the residual" in str(refused) or "does not read it" in str(refused)
        assert not any(layer.op.readers("pre") for b in arch.blocks for layer in b.layers if layer.op and layer.pre)
        return
    after = apply(checkpoint, edit)
    assert {f"{d.block}.{d.layer}.{d.norm}" for d in edit.decisions} | {n for n, _ in edit.notes} == set(
        norms(arch, *KINDS)
    )
    assert difference(checkpoint, after, "fp32") <= 1e-5
    double = in_double(checkpoint)
    assert difference(double, apply(double, edit), "fp64") <= 1e-12
    assert norms(after.architecture, "batch") == [n for n, _ in edit.notes if n in norms(arch, "batch")]


@pytest.mark.parametrize("family", ["mobilevit", "mobilevitv2"])
def test_no_batch_norm_is_left(family):
    checkpoint = tiny(family)
    arch = checkpoint.architecture
    edit = fold_edit(arch)
    assert edit.notes == () and len(edit.decisions) == len(norms(arch, "batch")) > 20
    assert from_json(Edit, json.loads(json.dumps(to_json(edit))), operator_class) == edit
    after = apply(checkpoint, edit)
    assert not norms(after.architecture, "batch") and not any("running" in name for name in after.weights)
    assert cost(after.architecture).parameters == sum(p.numel() for p in after.module().parameters())
    convs = [
        p.layer.op for p in after.architecture.places if isinstance(p.layer.op, GridConv) and p.layer.name == "conv"
    ]
    assert convs and all(op.bias for op in convs)
    assert after.architecture.family == family
    changed = [
        n
        for n in after.weights
        if n in checkpoint.weights and not torch.equal(load(after.weights[n]), load(checkpoint.weights[n]))
    ]
    assert len(changed) == len(edit.decisions)


def test_some_of_the_norms_inside_an_operator():
    """Each norm by itself; the gain goes into the rows, so that the depthwise kernels and what reads them follow."""
    layers = (Layer("op", MBConv(se="relu"), branch=BATCH), {"hidden": 12, "inner": 5})
    checkpoint = lively(on_image([layers], width=8, image=8))
    for norm in ("expand_norm", "depthwise_norm", "branch"):
        after = apply(checkpoint, Edit("t", (Fold("b0", "op", norm),)))
        assert difference(checkpoint, after, "fp32") <= 1e-5
        assert len(norms(after.architecture, "batch")) == 2


def test_batch_norm_before_a_linear_layer_and_after_a_sum():
    pre, post = Layer("a", Mlp(act="relu"), pre=BATCH), Layer("b", Mlp(act="relu"), post=BATCH)
    plain = Layer("c", Mlp(act="relu"), post=BATCH, residual=False)
    checkpoint = lively(on_image([(pre, {"hidden": 9}), (post, {"hidden": 7}), (plain, {"hidden": 5})], image=8))
    edit = fold_edit(checkpoint.architecture)
    assert edit.decisions == (Fold("b0", "a", "pre"), Fold("b0", "c", "post"))
    assert edit.notes == (("b0.b.post", "the stream after the norm is also the residual"),)
    assert difference(checkpoint, apply(checkpoint, edit), "fp32") <= 1e-5


def test_padding_keeps_a_shift_out_of_a_convolution():
    """Zeros around the grid are not shifted: a norm before a 3×3 convolution stays, one before a single cell goes."""
    wide, point = GridConv(), GridConv(kernel=(1, 1), padding=(0, 0), bias=False)
    checkpoint = lively(on_image([(Layer("a", wide, pre=BATCH), {}), (Layer("b", point, pre=BATCH), {})], image=8))
    edit = fold_edit(checkpoint.architecture)
    assert edit.decisions == (Fold("b0", "b", "pre"),) and edit.notes[0][0] == "b0.a.pre"
    assert difference(checkpoint, apply(checkpoint, edit), "fp32") <= 1e-5


def test_refusals_name_the_reason():
    bert = tiny("bert")
    with pytest.raises(
        RefusedEdit, match=r"b0\.attn\.post cannot be folded: the stream after the norm is also the residual"
    ):
        apply(bert, Edit("t", (Fold("b0", "attn", "post"),)))
    with pytest.raises(UsageError, match="no batch norm"):
        fold_edit(bert.architecture)
    with pytest.raises(UsageError, match="unknown kind of norm 'bach'"):
        fold_edit(bert.architecture, ["bach"])
    coded = apply(tiny("mobilevit"), Edit("t", (Encode("embed.conv.conv.weight", Affine(8)),)))
    with pytest.raises(RefusedEdit, match=r"embed\.conv\.conv\.weight is stored as integers"):
        apply(coded, fold_edit(coded.architecture))
    arch = in_text([(Layer("op", Mlp(act="relu"), pre=NormSpec()), {"hidden": 8})])
    again = replace(arch.block("b0"), name="b0_again", share="b0")
    shared = replace(arch, blocks=(*arch.blocks[:2], again, *arch.blocks[2:]))
    with pytest.raises(RefusedEdit, match=r"is shared by b0\.op and b0_again\.op; put an Unshare decision before"):
        apply(lively(shared), Edit("t", (Fold("b0", "op", "pre"),)))


def test_what_is_protected_stays():
    arch = tiny("mobilevit").architecture
    edit = fold_edit(arch, protect=("embed", "down3.mb.project.weight"))
    assert dict(edit.notes) == {"embed.conv.branch": "protected", "down3.mb.branch": "protected"}


def test_a_family_without_names_for_what_is_left_gives_it_up(tmp_path):
    """No file of ViT has a BatchNorm: with one the model is of no family, and once it is folded it is ViT again."""
    vit = tiny("vit")
    arch = vit.architecture
    layers = [replace(layer, branch=BATCH) if layer.name == "ffn" else layer for layer in arch.block("b0").layers]
    blocks = tuple(replace(b, layers=tuple(layers)) if b.name == "b0" else b for b in arch.blocks)
    checkpoint = replace(lively(replace(arch, blocks=blocks)), source=vit.source)
    other = apply(checkpoint, fold_edit(checkpoint.architecture, ["layer"]))
    assert other.architecture.family == "" and not other.source.carried
    save(other, tmp_path)
    assert difference(checkpoint, read(tmp_path), "fp32") <= 1e-5
    folded = apply(checkpoint, fold_edit(checkpoint.architecture))
    assert folded.architecture.family == "vit" and differences(folded.architecture, arch) == ()
