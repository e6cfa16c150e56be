import dataclasses

import pytest
import torch
from test_table import QUICK

from archtool.errors import InputError, UsageError
from archtool.ir.architecture import Layer
from archtool.ir.edit import Drop, drop
from archtool.ir.validate import validate
from archtool.measure.cases import (
    Grid,
    Workload,
    grid_cases,
    layer_stack,
    model_case,
    model_cases,
    predict_latency,
)
from archtool.measure.inputs import example_inputs, input_length, is_masked, padding_ids
from archtool.measure.layers import WIDTH, frame_signature, require_body, split
from archtool.measure.store import LatencyStore
from archtool.measure.subshapes import random_subshapes
from archtool.measure.table import LatencyTable
from archtool.model.build import build
from tests.model.tiny import CONFIGS, tiny

WORK = Workload(2, 9)
PLAIN = [family for family in CONFIGS if split(tiny(family).architecture, 9).body]
"""Families whose layers can be measured alone."""
DECODERS = ("llama", "gemma2", "phi3", "gpt2", "starcoder2", "mamba")
KINDS = {"gemma2": 3, "mamba": 1, "mobilevit": 4, "mobilevitv2": 6}
"""Distinct layers where there are not just attention and ffn: Gemma-2 alternates windowed and full attention,
MobileViT has stages of other lengths."""
PARTLY = ("mobilevit", "mobilevitv2", "marian", "opennmt")
"""Families in which only some blocks stand alone: others need a grid, or read an encoder."""


@pytest.mark.parametrize("family", CONFIGS)
def test_example_inputs_run_and_hold_no_padding(family):
    checkpoint = tiny(family)
    arch = checkpoint.architecture
    inputs = example_inputs(arch, 2, 9, seed=1)
    again, other = example_inputs(arch, 2, 9, seed=1), example_inputs(arch, 2, 9, seed=2)
    first = arch.inputs[0]
    assert torch.equal(inputs[first], again[first]) and not torch.equal(inputs[first], other[first])
    outputs = checkpoint.module()(**inputs)
    assert set(outputs) == {name for name, _ in arch.outputs}
    if first == "input_ids":
        assert not set(inputs[first].flatten().tolist()) & padding_ids(arch)
        assert ("attention_mask" in inputs) == is_masked(arch) == (family not in DECODERS)
    elif first == "past_values":
        assert inputs[first].shape == (2, 24, 3)
    else:
        size = arch.fact["image_height"]
        assert inputs[first].shape == (2, 3, size, size) and input_length(arch, 64) == size


def test_example_inputs_refuse_what_the_model_cannot_take():
    arch = tiny("bert").architecture
    with pytest.raises(InputError, match="length 33 is more than the model's 32"):
        example_inputs(arch, 1, 33)
    with pytest.raises(InputError, match="the input 'series'"):
        example_inputs(dataclasses.replace(arch, inputs=("input_ids", "series")), 1, 9)
    assert padding_ids(tiny("roberta").architecture) == {0, 1}


def test_models_without_a_layer_that_stands_alone_are_measured_as_a_whole():
    assert {"convnext", "poolformer"} <= set(CONFIGS) - set(PLAIN)
    for family in set(CONFIGS) - set(PLAIN):
        with pytest.raises(InputError, match="can be measured alone"):
            require_body(split(tiny(family).architecture, 9))


@pytest.mark.parametrize("family", PLAIN)
def test_body_and_frame_make_the_whole(family):
    arch = tiny(family).architecture
    parts = split(arch, 9)
    validate(parts.frame)
    assert len({layer.signature for layer in parts.body}) == KINDS.get(family, 2)
    gone = [p.block.name for p in arch.places if p.block.name not in parts.frame.index]
    assert [layer.place.block.name for layer in parts.body] == gone and len(gone) >= 2
    assert family in PARTLY or gone == [p.block.name for p in arch.places if p.block.stage]
    assert build(parts.frame)(**example_inputs(parts.frame, 2, 9)).keys() == {name for name, _ in arch.outputs}
    assert all(layer.tokens == (9 if "input_ids" in arch.inputs else layer.tokens) for layer in parts.body)


@pytest.mark.parametrize("family", PLAIN)
def test_a_stack_of_copies_computes_what_the_layers_compute_in_the_model(family):
    model = tiny(family).module()
    arch = model.architecture
    layer = split(arch, 9).body[1]
    stack = layer_stack(layer, dict(layer.sizes), ("input_ids", "attention_mask"), 2)
    validate(stack)
    copies, name = build(stack).eval(), layer.place.layer.name
    source = model.get_submodule(layer.place.name).state_dict()
    for i in range(2):
        copies.get_submodule(f"b{i}.{name}").load_state_dict(source)
    hidden = torch.randn(2, 9, arch.size[layer.stream])
    ids = torch.ones(2, 9, dtype=torch.int64)
    expected = hidden
    from archtool.model.build import run_layer
    from archtool.model.context import Context, Graph

    for _ in range(2):
        ctx = Context(Graph((), ("input_ids",), {}, ()), {"input_ids": ids, "attention_mask": ids}, None)
        expected = run_layer(model.get_submodule(layer.place.name), layer.place.layer, expected, expected, ctx)
    assert torch.allclose(copies(hidden=hidden, input_ids=ids, attention_mask=ids)["stream"], expected)


def test_signatures_leave_out_what_changes_no_kernel():
    bert = tiny("bert").architecture
    attn, ffn = split(bert, 9).body[:2]
    assert attn.signature != ffn.signature != split(bert, 10).body[1].signature
    block = bert.blocks[1]

    def changed(op_changes, layer_changes):
        layer = block.layers[0]
        layer = dataclasses.replace(layer, op=dataclasses.replace(layer.op, **op_changes), **layer_changes)
        blocks = tuple(dataclasses.replace(b, layers=(layer, *b.layers[1:])) if b is block else b for b in bert.blocks)
        return split(dataclasses.replace(bert, blocks=blocks), 9).body[0].signature

    assert changed({"scale": 0.123}, {}) == attn.signature
    assert changed({}, {"post": dataclasses.replace(block.layers[0].post, eps=0.5)}) == attn.signature
    assert changed({"causal": True}, {}) != attn.signature
    assert changed({"softcap": 30.0}, {}) != attn.signature
    assert changed({}, {"post": None}) != attn.signature
    assert frame_signature(split(bert, 9).frame) != frame_signature(split(tiny("distilbert").architecture, 9).frame)


def test_sizes_are_named_alike_wherever_a_layer_stands():
    attn, ffn = split(tiny("llama").architecture, 9).body[-2:]
    assert dict(attn.sizes) == {"kv": 2, "group": 2, "pairs": 3, "v": 6, WIDTH: 24}
    assert dict(ffn.sizes) == {"hidden": 40, WIDTH: 24}


def test_grids_span_every_layer_and_sub_shapes_stay_inside():
    arch = tiny("vit").architecture
    uneven = arch.resized({"b1.ffn.hidden": 13, "b2.attn.kv": 2})
    grid = Grid(("kv", "hidden", WIDTH), points=3, low=0.5)
    cases = grid_cases(uneven, grid, WORK)
    by_kind = {}
    for case in cases:
        by_kind.setdefault(case.signature, []).append(case.sizes)
    frames, attn, ffn = by_kind.values()
    assert [frame["s0.width"] for frame in frames] == [12, 18, 24]
    assert {s["kv"] for s in attn} == {2, 3, 4} and len(attn) == 9
    assert {s["hidden"] for s in ffn} == {13, 20, 30, 40} and len(ffn) == 12
    shapes = random_subshapes(uneven, grid, 9, 12, seed=3)
    assert shapes == random_subshapes(uneven, grid, 9, 12, seed=3) and len(set(shapes)) > 8
    assert {len(split(s, 9).body) for s in shapes} == {4, 6}
    known = {(case.signature, axis, size) for case in cases for axis, size in case.sizes.items()}
    for shape in shapes:
        validate(shape)
        for signature, sizes in split(shape, 9).ops:
            for axis, size in sizes.items():
                ends = [n for s, a, n in known if (s, a) == (signature, axis)]
                assert min(ends) <= size <= max(ends)


def test_tied_and_stageless_layers_stay_in_the_frame():
    arch = tiny("bert").architecture
    bare = dataclasses.replace(arch, blocks=tuple(dataclasses.replace(b, stage="") for b in arch.blocks))
    assert split(bare, 9).body == () and split(bare, 9).frame == bare
    with pytest.raises(InputError, match="no layer"):
        grid_cases(bare, Grid(), WORK)


def test_layers_without_an_operator_are_cases_too():
    arch = drop(tiny("bert").architecture, Drop("b1", "attn"))
    assert arch.block("b1").layers[0] == Layer("attn", None, post=arch.block("b0").layers[0].post, residual=False)
    norm = split(arch, 9).body[2]
    assert dict(norm.sizes) == {WIDTH: 24}
    assert build(layer_stack(norm, dict(norm.sizes), (), 3))(hidden=torch.ones(1, 9, 24))["stream"].shape == (
        1,
        9,
        24,
    )


def test_a_real_model_is_predicted(tmp_path):
    arch = tiny("vit").architecture.resized(
        {"s0.width": 128, "b0.ffn.hidden": 512, "b1.ffn.hidden": 512, "b2.ffn.hidden": 512}
    )
    plan = dataclasses.replace(QUICK, min_rounds=15)
    table = LatencyTable("torch", 1, 2, 9, store=LatencyStore(tmp_path / "l.sqlite"), plan=plan)
    with pytest.raises(InputError, match="never measured"):
        predict_latency(arch, table)
    table.build(model_cases(arch, WORK))
    error = table.validate([model_case("all", arch, WORK)])
    assert error.rows[0].predicted_ms == predict_latency(arch, table) > 0 and error.rows[0].measured_ms > 0
    with pytest.raises(InputError, match="outside the measured range"):
        predict_latency(arch.resized({"b0.ffn.hidden": 600}), table)


def test_models_with_different_inputs_are_not_compared():
    from archtool.measure.compare import BenchPlan, bench_models

    with pytest.raises(UsageError, match="same inputs"):
        bench_models({"parent": tiny("vit"), "child": tiny("bert")}, BenchPlan())
