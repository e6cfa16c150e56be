"""The seven things of docs/representation.md: each is built, costed, cut and compared with its masked parent."""

import json
from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from archtool.errors import InputError
from archtool.families.base import Draft
from archtool.ir.architecture import Architecture, Layer, NormSpec, place_flows
from archtool.ir.axes import Selection
from archtool.ir.codec import from_json, to_json
from archtool.ir.cost import cost
from archtool.ir.edit import Drop, Edit, Encode, RefusedEdit, Select, Unshare
from archtool.ir.feeds import entering
from archtool.ir.operator import Flow
from archtool.ir.parts import Kind
from archtool.ir.table import axes, claims, shape, stored
from archtool.ir.validate import validate
from archtool.model.apply import apply
from archtool.model.build import build
from archtool.model.checkpoint import Checkpoint, of_module
from archtool.model.masked import masked_parent
from archtool.operators.attention import Attention
from archtool.operators.dense import Dense
from archtool.operators.lm_head import LmHead
from archtool.operators.mlp import Mlp
from archtool.operators.patch_stem import PatchStem
from archtool.operators.pool import Pool
from archtool.operators.token_stem import TokenStem
from tests.ir import said

LN = NormSpec()
BN = NormSpec("batch")


def flat(name, op, **more):
    return Layer(name, op, residual=False, **more)


def image_draft(width=6, classes=5):
    draft = Draft("", ("pixel_values",))
    draft.sizes.update({"channels": 3, "s0.width": width})
    draft.facts.update(image_height=8, image_width=8)
    draft.block("stem", (flat("patch", PatchStem(patch=(1, 1), tokens=(), positions=False)), {}))
    return draft


def finished(draft, classes=5):
    draft.block("head", (flat("pool", Pool(mode="mean")), {}), (flat("score", Dense()), {"units": classes}))
    draft.output("logits", "head")
    return draft.done()


def swin():
    draft = image_draft()
    draft.sizes["s1.width"] = 10
    sizes = {"heads": 3, "qk": 4, "v": 5}
    window = said.WindowAttention(window=2, scale=0.5)
    for i in (0, 1):
        draft.block(f"b{i}", (Layer("attn", window, pre=LN), sizes), (Layer("ffn", Mlp(), pre=LN), {"hidden": 7}))
    draft.block("merge", (flat("merge", said.PatchMerging(into="s1.width")), {}))
    draft.block("b2", (Layer("attn", window, pre=LN), sizes))
    return finished(draft)


def mobilevit():
    draft = image_draft()
    draft.sizes.update({"m.width": 8})
    conv, point = said.GridConv(kernel=3, into="s0.width"), said.GridConv(kernel=1, into="m.width")
    draft.block("local", (flat("conv", conv, branch=BN), {}), (flat("act", said.Silu()), {}), (flat("in", point), {}))
    attention = (Layer("attn", Attention(scale=0.5), pre=LN), {"kv": 2, "group": 1, "qk": 4, "v": 4})
    draft.block(
        "global", (flat("unfold", said.Unfold(patch=2)), {}), attention,
        (Layer("ffn", Mlp(), pre=LN, post=LN), {"hidden": 9}), (flat("fold", said.Fold(patch=2)), {}),
    )  # fmt: skip
    draft.block("out", (flat("conv", said.GridConv(kernel=1, into="s0.width"), branch=BN), {}))
    draft.block("fuse", (flat("conv", conv, branch=BN), {}), inputs=("stem", "out"))
    return finished(draft)


def text_draft():
    draft = Draft("", ("input_ids",))
    draft.sizes.update({"vocab": 31, "s0.width": 12})
    draft.block("embed", (flat("tokens", TokenStem()), {}))
    return draft


def t5():
    draft = text_draft()
    for i in range(3):
        op = said.BiasedAttention(tie="b0.attn.bias" if i else "")
        draft.block(f"b{i}", (Layer("attn", op, pre=LN), {"heads": 4, "qk": 3, "v": 2}), stage="s0")
    return finished(draft)


def unet():
    draft = image_draft()
    draft.sizes["s1.width"] = 10
    draft.block("down", (flat("merge", said.PatchMerging(into="s1.width")), {}))
    draft.block("middle", (Layer("ffn", Mlp(), pre=LN), {"hidden": 7}))
    draft.block("up", (flat("expand", said.Expand(into="up.width")), {}))
    draft.sizes["up.width"] = 4
    join = (flat("join", said.Join()), {})
    fuse = (flat("fuse", Dense(into="s0.width"), pre=LN), {})
    draft.block("skip", join, fuse, inputs=("up", "stem"))
    return finished(draft)


def mamba():
    draft = text_draft()
    for i in range(2):
        draft.block(f"b{i}", (Layer("mamba", said.Mamba(), pre=LN), {"inner": 10, "state": 4, "rank": 3}), stage="s0")
    return finished(draft)


def tied():
    draft = text_draft()
    draft.block("b0", (Layer("ffn", Mlp(), pre=LN), {"hidden": 9}))
    draft.block("head", (flat("lm", LmHead(tie="embed.tokens.token")), {}))
    draft.output("logits", "head")
    return draft.done()


SAID: dict[str, Callable[[], Architecture]] = {
    "swin": swin, "mobilevit": mobilevit, "t5": t5, "unet": unet, "mamba": mamba, "tied": tied,
}  # fmt: skip
TIED_HEADS = [f"b{i}.attn.heads" for i in range(3)]
KEPT = {"vocab", "channels"}


def checkpoint_of(name, seed=0) -> Checkpoint:
    arch = SAID[name]()
    validate(arch)
    model = build(arch, seed=seed, std=0.3)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for n, b in model.named_buffers() if "running" in n)):
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.3)
    return of_module(model)


def feed_of(arch, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    if "pixel_values" in arch.inputs:
        return {"pixel_values": torch.randn((2, 3, 8, 8), generator=generator, dtype=dtype)}
    return {"input_ids": torch.randint(0, 31, (2, 7), generator=generator)}


def choices(arch) -> list[dict[str, tuple[int, ...]]]:
    """Every axis alone (tied ones together), then all of them together."""
    free = [a for a in axes(arch) if a not in KEPT and arch.size[a] > 1]
    keep = {a: tuple(range(1, arch.size[a], 2)) for a in free}
    shared = any(c.part == "bias" and c.spec.storage != c.name for c in claims(arch))
    tied_group = [a for a in free if shared and a in TIED_HEADS]
    alone = [{a: keep[a]} for a in free if a not in tied_group]
    return [*alone, *([{a: keep[a] for a in tied_group}] if tied_group else []), keep]


@pytest.mark.parametrize("name", sorted(SAID))
def test_sliced_equals_masked_parent_on_every_axis(name):
    checkpoint = checkpoint_of(name)
    arch = checkpoint.architecture
    for chosen in choices(arch):
        edit = Edit("test", tuple(Select(Selection(a, k)) for a, k in chosen.items()))
        small = apply(checkpoint, edit)
        for storage, spec in stored(small.architecture).items():
            assert tuple(small.weights[storage].shape) == shape(spec, small.architecture), (chosen, storage)
        out = small.module()(**feed_of(arch))["logits"]
        expected = masked_parent(checkpoint.module(), edit)(**feed_of(arch))["logits"]
        if "head.score.units" in chosen:
            expected = expected[..., list(chosen["head.score.units"])]
        assert (out - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1.0), chosen


@pytest.mark.parametrize("name", sorted(SAID))
def test_cost_is_what_is_counted(name):
    checkpoint = checkpoint_of(name)
    arch, module = checkpoint.architecture, checkpoint.module()
    found = cost(arch, length=7)
    assert found.parameters == sum(p.numel() for p in module.parameters())
    assert found.weight_bytes == 4 * sum(n.numel() for n in module.state_dict().values()) - (
        4 * module.get_parameter("embed.tokens.token.weight").numel() if name == "tied" else 0
    ) - (4 * 2 * module.get_parameter("b0.attn.bias").numel() if name == "t5" else 0)
    one = {n: t[:1] for n, t in feed_of(arch).items()}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(**one)
    places = zip(arch.places, place_flows(arch, entering(arch, 7)), strict=True)
    scans = sum(p.layer.op.mixing_macs(p.site, flow) for p, flow in places if isinstance(p.layer.op, said.Mamba))
    assert 2 * (found.macs - scans) == counter.get_total_flops()


def cut(checkpoint, **chosen):
    decisions = tuple(Select(Selection(a.replace("_", "."), k)) for a, k in chosen.items())
    return apply(checkpoint, Edit("test", decisions)).architecture


def test_patch_merging_follows_the_width_four_times():
    small = cut(checkpoint_of("swin"), s0_width=(1, 4))
    specs = stored(small)
    assert shape(specs["merge.merge.norm.weight"], small) == (8,)
    assert shape(specs["merge.merge.reduce.weight"], small) == (10, 8)


def test_bias_table_follows_the_heads_and_the_index_is_one():
    checkpoint = checkpoint_of("swin")
    small = cut(checkpoint, b0_attn_heads=(0, 2))
    assert shape(stored(small)["b0.attn.bias"], small) == (9, 2)
    assert shape(stored(small)["b1.attn.bias"], small) == (9, 3)
    module = checkpoint.module()
    assert module.get_buffer("b0.attn.index") is module.get_buffer("b1.attn.index")
    assert not any("index" in name for name in stored(small))


def test_one_blocks_heads_of_a_shared_bias_are_refused_by_name():
    checkpoint = checkpoint_of("t5")
    assert [c.spec.storage for c in claims(checkpoint.architecture) if c.part == "bias"] == ["b0.attn.bias"] * 3
    with pytest.raises(RefusedEdit, match=r"b0\.attn\.bias is shared by b0\.attn and b1\.attn"):
        cut(checkpoint, b1_attn_heads=(0, 2))
    small = cut(checkpoint, b0_attn_heads=(0, 2), b1_attn_heads=(0, 2), b2_attn_heads=(0, 2))
    assert shape(stored(small)["b0.attn.bias"], small) == (8, 2)


def test_the_owner_of_a_shared_bias_cannot_be_dropped():
    checkpoint = checkpoint_of("t5")
    for what in (Drop("b0"), Drop("b0", "attn")):
        with pytest.raises(RefusedEdit, match=r"owns b0\.attn\.bias"):
            apply(checkpoint, Edit("test", (what,)))
    assert "b1" not in apply(checkpoint, Edit("test", (Drop("b1"),))).architecture.index


def test_a_dangling_or_mis_shaped_tie_is_refused():
    from dataclasses import replace

    arch = t5()
    op = replace(arch.blocks[2].layers[0].op, tie="b7.attn.bias")
    broken = replace(arch.blocks[2], layers=(replace(arch.blocks[2].layers[0], op=op),))
    with pytest.raises(InputError, match=r"b1.*b7\.attn\.bias"):
        validate(replace(arch, blocks=(*arch.blocks[:2], broken, *arch.blocks[3:])))
    with pytest.raises(InputError, match=r"b2\.attn\.bias has shape \(8, 5\)"):
        validate(arch.resized({"b2.attn.heads": 5}))


def test_concatenated_streams_are_cut_in_their_halves():
    small = cut(checkpoint_of("unet"), up_width=(1,), s0_width=(0, 5))
    specs = stored(small)
    assert shape(specs["up.expand.expand.weight"], small) == (4, 10)
    assert shape(specs["skip.fuse.proj.weight"], small) == (2, 3)
    assert shape(specs["skip.fuse.pre.weight"], small) == (3,)


def test_blocks_that_change_the_stream_or_its_tokens_cannot_be_dropped():
    with pytest.raises(RefusedEdit, match="down"):
        apply(checkpoint_of("unet"), Edit("test", (Drop("down"),)))
    draft = image_draft()
    draft.block("down", (flat("merge", said.PatchMerging(into="s0.width")), {}))
    with pytest.raises(RefusedEdit, match="number of tokens"):
        apply(of_module(build(finished(draft))), Edit("test", (Drop("down"),)))


def test_a_dropped_block_with_named_inputs_leaves_them_to_its_follower():
    draft = image_draft()
    draft.block("side", (Layer("ffn", Mlp()), {"hidden": 3}))
    draft.block("main", (Layer("ffn", Mlp()), {"hidden": 3}), inputs=("stem",))
    checkpoint = of_module(build(finished(draft), std=0.5))
    edit = Edit("test", (Drop("main"),))
    small = apply(checkpoint, edit)
    assert small.architecture.block("head").inputs == ("stem",)
    feed = feed_of(small.architecture)
    expected = masked_parent(checkpoint.module(), edit)(**feed)["logits"]
    assert torch.allclose(small.module()(**feed)["logits"], expected, atol=1e-6)


def test_mamba_is_cut_in_both_halves_and_its_scan_follows():
    small = cut(checkpoint_of("mamba"), b0_mamba_inner=(1, 3, 8), b0_mamba_state=(0, 2))
    specs = {n.removeprefix("b0.mamba."): shape(s, small) for n, s in stored(small).items() if n.startswith("b0")}
    assert specs["enter.weight"] == (6, 12) and specs["conv.weight"] == (3, 1, 4)
    assert specs["select.weight"] == (3 + 2 + 2, 3) and specs["decay"] == (3, 2)
    assert specs["step.weight"] == (3, 3) and specs["leave.weight"] == (12, 3)


def test_a_tied_head_is_one_storage_with_two_claims():
    checkpoint = checkpoint_of("tied")
    arch = checkpoint.architecture
    users = [c for c in claims(arch) if c.spec.storage == "embed.tokens.token.weight"]
    assert [c.place.name for c in users] == ["embed.tokens", "head.lm"]
    small = apply(checkpoint, Edit("test", (Select(Selection("s0.width", (0, 3, 5))),)))
    module = small.module()
    assert module.get_parameter("head.lm.proj.weight") is module.get_parameter("embed.tokens.token.weight")
    assert shape(stored(small.architecture)["embed.tokens.token.weight"], small.architecture) == (31, 3)


def test_batchnorm_statistics_are_buffers_that_follow_the_channels():
    checkpoint = checkpoint_of("mobilevit")
    specs = stored(checkpoint.architecture)
    assert specs["local.conv.branch.running_var"].kind is Kind.BUFFER
    keep = (0, 2, 5)
    small = apply(checkpoint, Edit("test", (Select(Selection("s0.width", keep)),)))
    for name in ("weight", "bias", "running_mean", "running_var"):
        storage = f"local.conv.branch.{name}"
        whole, part = checkpoint.weights[storage].rows(0, 6), small.weights[storage].rows(0, 3)
        assert torch.equal(part, whole[list(keep)])


def test_batchnorm_equals_torch_in_training_and_evaluation():
    draft = image_draft()
    draft.block("b0", (Layer("ffn", Mlp(), pre=BN), {"hidden": 4}))
    module = build(finished(draft)).train()
    ours, theirs = module.get_submodule("b0.ffn.pre"), torch.nn.BatchNorm1d(6)
    x_BTD = torch.randn((3, 5, 6), generator=torch.Generator().manual_seed(0)) * 2 + 1
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        assert torch.allclose(ours(x_BTD), theirs(x_BTD.flatten(0, 1)).view_as(x_BTD), atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var)


def test_grouped_convolution_takes_its_groups_from_its_tensors():
    from archtool.ir.axes import dim
    from archtool.ir.parts import Conv2d
    from archtool.model.primitives import primitive

    part = Conv2d("conv", dim("groups", "out"), dim("inp"), (3, 3), padding=(1, 1))
    made = primitive(part, {"groups": 2, "out": 3, "inp": 4}, {})
    made = made.to_empty(device="cpu")
    reference = torch.nn.Conv2d(8, 6, 3, padding=1, groups=2)
    made.load_state_dict(reference.state_dict())
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(made(x), reference(x))


def test_a_layout_that_changes_back_keeps_every_token_in_place():
    """Unfold then fold is the identity, so a MobileViT block without its layers passes the stream."""
    draft = image_draft()
    draft.block("g", (flat("unfold", said.Unfold(patch=2)), {}), (flat("fold", said.Fold(patch=2)), {}))
    draft.output("there", "g")
    draft.output("here", "stem")
    model = build(draft.done())
    out = model(**feed_of(model.architecture))
    assert torch.equal(out["there"], out["here"])


def test_patch_merging_takes_neighbours_in_swins_order():
    draft = image_draft(width=1)
    draft.sizes["s1.width"] = 4
    draft.block("down", (flat("merge", said.PatchMerging(into="s1.width")), {}))
    draft.output("hidden", "down")
    model = build(draft.done())
    op = model.architecture.block("down").layers[0].op

    class Pass:
        norm = staticmethod(lambda x: x)
        reduce = staticmethod(lambda x: x)

    class Where:
        flow = Flow(16, (4, 4))

    x = torch.arange(16.0).reshape(1, 16, 1)
    assert op.forward(Pass, x, Where)[0, 0].tolist() == [0.0, 4.0, 1.0, 5.0]


def test_unshared_tensors_start_equal_and_are_then_free():
    checkpoint = checkpoint_of("t5")
    feed = feed_of(checkpoint.architecture)
    own = apply(checkpoint, Edit("test", (Unshare("b1", "attn"),)))
    assert torch.equal(own.module()(**feed)["logits"], checkpoint.module()(**feed)["logits"])
    assert (
        "b1.attn.bias" in own.weights
        and cost(own.architecture).parameters == cost(checkpoint.architecture).parameters + 32
    )
    select = Select(Selection("b1.attn.heads", (0, 2)))
    small = apply(checkpoint, Edit("test", (Unshare("b1", "attn"), select)))
    masked = masked_parent(own.module(), Edit("test", (select,)))
    assert torch.allclose(small.module()(**feed)["logits"], masked(**feed)["logits"], atol=1e-5)
    with pytest.raises(RefusedEdit, match=r"b0\.attn shares no tensor"):
        apply(checkpoint, Edit("test", (Unshare("b0", "attn"),)))


def test_a_repeated_block_is_unshared_whole():
    from dataclasses import replace

    from archtool.ir.encodings import Affine

    arch = mamba()
    blocks = tuple(replace(b, share="b0") if b.name == "b1" else b for b in arch.blocks)
    arch = replace(arch, blocks=blocks, sizes=tuple((a, n) for a, n in arch.sizes if not a.startswith("b1.")))
    validate(arch)
    checkpoint = of_module(build(arch, std=0.3))
    coded = apply(checkpoint, Edit("test", (Encode("b0.mamba.leave.weight", Affine()),)))
    own = apply(coded, Edit("test", (Unshare("b1"), Select(Selection("b1.mamba.state", (3, 0, 2, 1))))))
    assert own.plan.of("b1.mamba.leave.weight") == Affine() == own.plan.of("b0.mamba.leave.weight")
    feed = feed_of(arch)
    assert torch.allclose(own.module()(**feed)["logits"], coded.module()(**feed)["logits"], atol=1e-5)


def test_only_weights_of_linear_layers_and_tables_are_encoded():
    from archtool.ir.encodings import Affine

    with pytest.raises(RefusedEdit, match=r"b0\.mamba\.decay cannot be stored as affine: only linear layers"):
        apply(checkpoint_of("mamba"), Edit("test", (Encode("b0.mamba.decay", Affine()),)))


def test_edits_with_every_decision_survive_json():
    decisions = (
        Unshare("b1", "attn"),
        Select(Selection("b1.attn.heads", (0, 2)), (1.0, 0.5, 2.0, 0.1)),
        Drop("b2"),
    )
    edit = Edit("test", decisions, notes=(("b2", "weak"),))
    assert from_json(Edit, json.loads(json.dumps(to_json(edit))), lambda kind: said.Mamba) == edit
