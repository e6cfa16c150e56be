"""timm's ViT and DeiT against an independent forward written from the published equations."""

import math

import pytest
import torch
import torch.nn.functional as F

from archtool.errors import InputError
from archtool.families.timm_vit import TimmVit
from tests.families.encoder_checks import shapes_of, swapped_heads
from tests.families.parity import ours

EPS = 1e-6
WIDTH, DEPTH, HIDDEN, PATCH, SIDE = 24, 2, 40, 4, 16
PLAIN = {
    "architecture": "vit_tiny_patch16_224", "num_classes": 5, "num_features": WIDTH, "global_pool": "token",
    "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "mean": [0.5, 0.5, 0.5]},
}  # fmt: skip


def _reference(t, image_BCHW, heads, tokens=("cls_token",), pool="token", embed_class=True, act=F.gelu):
    """ViT by equations 1 to 4 of Dosovitskiy et al., with the options that timm adds."""
    width, patch = t["patch_embed.proj.weight"].shape[0], t["patch_embed.proj.weight"].shape[2]
    cut = image_BCHW.unfold(2, patch, patch).unfold(3, patch, patch)
    rows = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = rows @ t["patch_embed.proj.weight"].reshape(width, -1).T + t["patch_embed.proj.bias"]
    extra = [t[name].expand(len(x), -1, -1) for name in tokens]
    if embed_class:
        x = torch.cat([*extra, x], dim=1) + t["pos_embed"]
    else:
        x = torch.cat([*extra, x + t["pos_embed"]], dim=1)
    for i in range(DEPTH):
        b = {name.removeprefix(f"blocks.{i}."): v for name, v in t.items() if name.startswith(f"blocks.{i}.")}
        x = x + b.get("ls1.gamma", 1.0) * _mixed(b, _norm(x, b, "norm1"), heads)
        wide = act(_norm(x, b, "norm2") @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"])
        x = x + b.get("ls2.gamma", 1.0) * (wide @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"])
    hidden = _norm(x, t, "norm") if "norm.weight" in t else x
    return {"hidden": hidden, **_head(t, hidden, len(tokens), pool)}


def _head(t, hidden, extra, pool):
    if "head_dist.weight" in t:
        both = (hidden[:, i] @ t[f"{h}.weight"].T + t[f"{h}.bias"] for i, h in enumerate(("head", "head_dist")))
        return {"logits": sum(both) / 2}
    pooled = hidden[:, extra:].mean(1) if pool == "avg" else hidden[:, 0]
    pooled = _norm(pooled, t, "fc_norm") if "fc_norm.weight" in t else pooled
    return {"pooled": pooled} | ({"logits": pooled @ t["head.weight"].T + t["head.bias"]} if "head.weight" in t else {})


def _norm(x, t, name):
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + EPS) * t[f"{name}.weight"] + t[f"{name}.bias"]


def _mixed(b, x, heads):
    batch, tokens, width = x.shape
    qkv = x @ b["attn.qkv.weight"].T + b.get("attn.qkv.bias", 0.0)
    q, k, v = qkv.reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    if "attn.q_norm.weight" in b:
        q, k = _norm(q, b, "attn.q_norm"), _norm(k, b, "attn.k_norm")
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // heads), dim=-1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, tokens, width)
    return mixed @ b["attn.proj.weight"].T + b["attn.proj.bias"]


def _names(tokens, positions, channels, heads, classes, options):
    """Name → shape of a small timm checkpoint."""
    w, h = WIDTH, HIDDEN
    shapes = {name: (1, 1, w) for name in tokens}
    shapes |= {"pos_embed": (1, positions, w), "patch_embed.proj.weight": (w, channels, PATCH, PATCH)}
    shapes |= {"patch_embed.proj.bias": (w,)}
    for i in range(DEPTH):
        linears = {"attn.qkv": (3 * w, w), "attn.proj": (w, w), "mlp.fc1": (h, w), "mlp.fc2": (w, h)}
        norms = {"norm1": w, "norm2": w}
        norms |= {"attn.q_norm": w // heads, "attn.k_norm": w // heads} if "qk_norm" in options else {}
        for name, shape in linears.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name, n in norms.items():
            shapes |= {f"blocks.{i}.{name}.weight": (n,), f"blocks.{i}.{name}.bias": (n,)}
        if "scale" in options:
            shapes |= {f"blocks.{i}.ls1.gamma": (w,), f"blocks.{i}.ls2.gamma": (w,)}
        if "no_bias" in options:
            del shapes[f"blocks.{i}.attn.qkv.bias"]
    norm = "fc_norm" if "fc_norm" in options else "norm"
    shapes |= {f"{norm}.weight": (w,), f"{norm}.bias": (w,)}
    for head in ("head", "head_dist")[: 2 if "dist_token" in tokens else 1] if classes else ():
        shapes |= {f"{head}.weight": (classes, w), f"{head}.bias": (classes,)}
    return shapes


def _tensors(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    one = {n: 1.0 for n in shapes if "norm" in n and n.endswith(".weight")}
    return {n: one.get(n, 0.0) + torch.randn(s, generator=generator) * 0.2 for n, s in shapes.items()}


def _images(channels=3):
    return torch.randn(2, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


CLS = ("cls_token",)
BOTH = ("cls_token", "dist_token")
CASES = [
    (PLAIN, CLS, 17, 3, 5, (), {"heads": 3}),
    (PLAIN | {"architecture": "vit_small_patch16_224.augreg"}, CLS, 17, 3, 5, ("no_bias",), {"heads": 6}),
    (PLAIN | {"architecture": "deit3_base_patch16_224", "num_classes": 0}, CLS, 16, 3, 0, ("scale",),
     {"heads": 12, "embed_class": False}),
    ({"architecture": "deit_tiny_distilled_patch16_224"}, BOTH, 18, 3, 5, (), {"heads": 3}),
    ({"architecture": "vit_small_x", "model_args": {"num_heads": 2, "qk_norm": True, "act_layer": "relu"}},
     CLS, 17, 1, 4, ("qk_norm", "scale"), {"heads": 2, "act": torch.relu}),
    ({"architecture": "vit_base_patch16_224", "model_args": {"num_heads": 4}}, CLS, 17, 3, 5, ("fc_norm",),
     {"heads": 4, "pool": "avg"}),
    ({"model_args": {"num_heads": 4}}, (), 16, 3, 5, (), {"heads": 4, "pool": "avg"}),
    ({"architecture": "vit_tiny_x", "global_pool": "avg"}, CLS, 17, 3, 5, (), {"heads": 3, "pool": "avg"}),
]  # fmt: skip


def _worst(model, reference, given):
    with torch.inference_mode():
        mine = model(pixel_values=given)
    assert set(mine) == set(reference)
    return max(float((mine[k] - v).abs().max()) for k, v in reference.items())


@pytest.mark.parametrize(("config", "tokens", "positions", "channels", "classes", "options", "how"), CASES)
def test_outputs_equal_the_equations(config, tokens, positions, channels, classes, options, how):
    tensors = _tensors(_names(tokens, positions, channels, how["heads"], classes, options))
    model, arch = ours(TimmVit(), config, tensors)
    expected = _reference(tensors, _images(channels), tokens=tokens, **how)
    assert _worst(model, expected, _images(channels)) <= 1e-5
    assert TimmVit().write(arch, config) == config
    fresh = TimmVit().write(arch, {})
    assert TimmVit().read(fresh, shapes_of(tensors)) == arch
    assert fresh["model_args"]["num_heads"] == how["heads"]


def test_fresh_arguments_say_the_sizes():
    tensors = _tensors(_names(CLS, 17, 3, 3, 5, ("scale",)))
    args = TimmVit().write(TimmVit().read(PLAIN, shapes_of(tensors)), {})["model_args"]
    assert (args["embed_dim"], args["depth"], args["num_classes"]) == (WIDTH, DEPTH, 5)
    assert int(args["embed_dim"] * args["mlp_ratio"]) == HIDDEN and args["init_values"]
    assert args["img_size"] == [SIDE, SIDE] and args["global_pool"] == "token" and not args["fc_norm"]


def test_an_edit_changes_only_its_arguments():
    tensors = _tensors(_names(CLS, 17, 3, 3, 5, ()))
    arch = TimmVit().read(PLAIN, shapes_of(tensors))
    narrow = arch.resized({f"b{i}.ffn.hidden": 12 for i in range(DEPTH)} | {"classes": 2})
    written = TimmVit().write(narrow, PLAIN)
    assert written == PLAIN | {"num_classes": 2, "model_args": {"mlp_ratio": 0.5, "num_classes": 2}}
    assert TimmVit().write(arch.resized({"b0.ffn.hidden": 3}), PLAIN)["model_args"] == {"mlp_ratio": None}


def test_head_count_must_be_known():
    shapes = _names(CLS, 17, 3, 3, 5, ())
    for config in ({}, {"architecture": "vit_little_patch16_224"}):
        with pytest.raises(InputError, match="number of heads"):
            TimmVit().read(config, shapes)


def test_wrong_head_count_or_order_is_seen():
    tensors = _tensors(_names(CLS, 17, 3, 3, 5, ()))
    expected = _reference(tensors, _images(), 3)
    other, _ = ours(TimmVit(), PLAIN | {"model_args": {"num_heads": 6}}, tensors)
    assert _worst(other, expected, _images()) > 1e-3
    swapped, _ = ours(TimmVit(), PLAIN, swapped_heads(tensors, "blocks.0.attn.qkv.weight", 8))
    assert _worst(swapped, expected, _images()) > 1e-3


def test_wrapped_names():
    tensors = _tensors(_names(CLS, 17, 3, 3, 5, ()))
    wrapped = {f"timm_model.{name}": t for name, t in tensors.items()}
    config = PLAIN | {"model_type": "timm_wrapper"}
    model, arch = ours(TimmVit(), config, wrapped)
    assert _worst(model, _reference(tensors, _images(), 3), _images()) <= 1e-5
    assert TimmVit().write(arch, {})["model_type"] == "timm_wrapper"
    assert TimmVit().detects(config, shapes_of(wrapped)) and TimmVit().detects({}, shapes_of(tensors))
    assert not TimmVit().detects({"architecture": "resnet50"}, {"fc.weight": (2, 2)})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"surprise_feature": 1}, "surprise_feature"),
        ({"model_args": {"surprise_arg": 1}}, "surprise_arg"),
        ({"architecture": "vit_base_patch16_rpn_224"}, "rpn"),
        ({"architecture": "swin_tiny_patch4_window7_224"}, "swin"),
        ({"global_pool": "map"}, "map"),
        ({"num_classes": 7}, "num_classes=7"),
        ({"model_args": {"embed_dim": 32}}, "embed_dim=32"),
        ({"model_args": {"act_layer": "mish"}}, "mish"),
    ],
)
def test_what_is_not_supported_is_named(change, match):
    with pytest.raises(InputError, match=match):
        TimmVit().read(PLAIN | change, _names(CLS, 17, 3, 3, 5, ()))


def test_relatives_are_refused_by_their_tensors():
    shapes = _names(CLS, 17, 3, 3, 5, ())
    with pytest.raises(InputError, match="reg_token"):
        TimmVit().read(PLAIN, shapes | {"reg_token": (1, 4, WIDTH)})
    with pytest.raises(InputError, match="gated"):
        TimmVit().read(PLAIN, shapes | {"blocks.0.mlp.fc2.weight": (WIDTH, HIDDEN // 2)})
    with pytest.raises(InputError, match="pos_embed has 15 rows"):
        TimmVit().read({"architecture": "vit_tiny_x"}, shapes | {"pos_embed": (1, 15, WIDTH)})
