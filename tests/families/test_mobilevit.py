"""MobileViT and MobileViTv2 against transformers: bodies, classifiers, strides, uneven grids, names in the files."""

import json

import pytest
import torch

from archtool.checkpoint.store import open_store
from archtool.errors import InputError
from archtool.families.mobilevit import MobileVit
from archtool.families.mobilevitv2 import MobileVitV2
from archtool.ir.edit import Drop, Edit, Fold
from archtool.ir.table import axis_claims
from archtool.model.apply import apply
from archtool.model.load import load
from archtool.model.save import save
from tests.families.encoder_checks import check_config, check_unknown_key, compared, shapes_of, swapped_heads
from tests.families.parity import file_tensors, lively, ours

tf = pytest.importorskip("transformers")
ONE = dict(
    image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 12, 16, 16, 20, 24], num_attention_heads=4,
    expand_ratio=2.0, num_labels=3,
)  # fmt: skip
TWO = dict(
    image_size=64, base_attn_unit_dims=[32, 40, 48], n_attn_blocks=[1, 2, 1], width_multiplier=0.25, num_labels=3
)
CASES = [
    ("MobileViTForImageClassification", {}),
    ("MobileViTForImageClassification", {"image_size": 96, "num_labels": 0, "hidden_act": "relu"}),
    ("MobileViTForImageClassification", {"output_stride": 16, "qkv_bias": False, "mlp_ratio": 1.5}),
    ("MobileViTForImageClassification", {"output_stride": 8, "conv_kernel_size": 5, "num_attention_heads": 2}),
    ("MobileViTModel", {"image_size": [64, 80], "patch_size": 3, "layer_norm_eps": 1e-3, "num_channels": 1}),
    ("MobileViTModel", {"neck_hidden_sizes": [8, 12, 12, 16, 24, 24, 40], "expand_ratio": 3.5}),
    ("MobileViTV2ForImageClassification", {}),
    ("MobileViTV2ForImageClassification", {"image_size": 72, "num_labels": 0, "width_multiplier": 0.35}),
    ("MobileViTV2ForImageClassification", {"output_stride": 16, "hidden_act": "gelu", "ffn_multiplier": 3}),
    ("MobileViTV2Model", {"image_size": [80, 112], "output_stride": 8, "patch_size": 3, "expand_ratio": 1.5}),
    ("MobileViTV2Model", {"conv_kernel_size": 5, "n_attn_blocks": [2, 1, 1], "layer_norm_eps": 1e-3}),
]


def made(name, extra, folder):
    two = "V2" in name
    config_class = tf.MobileViTV2Config if two else tf.MobileViTConfig
    torch.manual_seed(0)
    reference = getattr(tf, name)(config_class(**({**(TWO if two else ONE), **extra})))
    tensors, config = file_tensors(lively(reference), folder)
    return reference, tensors, config, MobileVitV2() if two else MobileVit(), config_class


def images(config):
    side = config["image_size"]
    height, width = side if isinstance(side, list) else (side, side)
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(2, config["num_channels"], height, width, generator=generator)}


@pytest.mark.parametrize(("name", "extra"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config, family, config_class = made(name, extra, tmp_path / "a")
    model, arch = ours(family, config, tensors)
    with torch.inference_mode():
        first, second = model(**images(config))["hidden"]
    compared(reference, model, images(config), tolerance=1e-5 * max(1.0, float(first.abs().max())))
    assert (first - second).abs().mean() > 0.1 * first.abs().mean(), "outputs that hardly depend on the image"
    fresh = check_config(family, config, tensors, arch, config_class)
    assert fresh["architectures"] == [name]
    check_unknown_key(family, config, tensors)
    assert family.read(config, {}) == arch


@pytest.mark.parametrize("case", [0, 6])
def test_the_fresh_configuration_loads_in_transformers(case, tmp_path):
    reference, tensors, config, family, _ = made(*CASES[case], tmp_path / "a")
    model, arch = ours(family, config, tensors)
    (tmp_path / "a" / "config.json").write_text(json.dumps(family.write(arch, {})))
    again = type(reference).from_pretrained(tmp_path / "a").eval()
    compared(again, model, images(config))


def test_wrong_orders_are_seen(tmp_path):
    """Heads of one projection exchanged, keys and values exchanged, patches of another size."""
    for case, name in ((0, "attention.attention.query.weight"), (6, "attention.qkv_proj.convolution.weight")):
        _, tensors, config, family, _ = made(*CASES[case], tmp_path / str(case))
        name = next(n for n in tensors if n.endswith(name))
        width = len(tensors[name]) // (4 if case == 0 else 2)
        if case == 0:
            wrong = swapped_heads(tensors, name, width)
        else:
            query, key, value = tensors[name].split([1, width, width])
            wrong = {**tensors, name: torch.cat((query, value, key))}
        with torch.inference_mode():
            right = ours(family, config, tensors)[0](**images(config))["logits"]
            other = ours(family, config, wrong)[0](**images(config))["logits"]
            patches = ours(family, {**config, "patch_size": 1}, tensors)[0](**images(config))["logits"]
        assert (right - other).abs().max() > 1e-3 and (right - patches).abs().max() > 1e-3


def test_what_is_not_supported_is_named(tmp_path):
    _, tensors, config, family, _ = made(*CASES[0], tmp_path / "one")
    shapes = shapes_of(tensors)
    with pytest.raises(InputError, match="MobileViTForSemanticSegmentation is not supported"):
        family.read({**config, "architectures": ["MobileViTForSemanticSegmentation"]}, shapes)
    with pytest.raises(InputError, match="MobileViTForSemanticSegmentation is not supported"):
        family.read(config, {**shapes, "segmentation_head.classifier.convolution.weight": (3, 8, 1, 1)})
    for key, value in (
        ("output_stride", 4),
        ("conv_kernel_size", 4),
        ("neck_hidden_sizes", [8, 8]),
        ("patch_size", [2, 2]),
    ):
        with pytest.raises(InputError, match=key):
            family.read({**config, key: value}, shapes)
    _, tensors, config, family, _ = made(*CASES[6], tmp_path / "two")
    with pytest.raises(InputError, match="image_size leaves a grid of 1 × 1"):
        family.read({**config, "image_size": 32}, shapes_of(tensors))


def test_axes_of_the_streams(tmp_path):
    """A residual joins two layers on one axis; inner widths belong to their blocks; fusion reads its stream twice."""
    _, tensors, config, family, _ = made(*CASES[0], tmp_path)
    arch = family.read(config, shapes_of(tensors))
    assert "s1.width" not in arch.size and arch.size["s2.width"] == 12
    hidden = [axis for axis in arch.size if axis.endswith("mb.hidden")]
    assert hidden == [f"{b}.mb.hidden" for b in ("s1b0", "s2b0", "s2b1", "s2b2", "down3", "down4", "down5")]
    assert all(len({c.place.name for c in axis_claims(arch, axis)}) == 1 for axis in hidden)
    blocks = {c.place.block.name for c in axis_claims(arch, "m4.width")}
    assert blocks == {"local4", *(f"m4b{i}" for i in range(4)), "fold4"}
    fusion = next(c for c in axis_claims(arch, "s3.width") if c.name == "fuse3.conv.conv.weight")
    assert str(fusion.spec.dims[1]) == "(s3.width ⊕ s3.width)"
    assert [b.name for b in arch.stage("s2")] == ["s2b1", "s2b2"] and len(arch.stage("m5")) == 3


def test_counters_are_carried_and_follow_their_norms(tmp_path):
    """BatchNorm's counters travel verbatim, move with a renumbered block, and go with a norm that is folded."""
    made(*CASES[0], tmp_path / "in")
    checkpoint, count = load(tmp_path / "in"), "num_batches_tracked"
    assert len(checkpoint.source.carried) == 22 + 10
    folder = tmp_path / "out"
    folder.mkdir()
    dropped = apply(checkpoint, Edit("t", (Drop("s2b1"), Fold("embed", "conv"))))
    save(dropped, folder)
    store = open_store(folder)
    kept = {name for name in store.infos if name.endswith(count)}
    at = "mobilevit.encoder.layer.1.layer"
    assert f"{at}.1.conv_3x3.normalization.{count}" in kept and f"{at}.2.conv_3x3.normalization.{count}" not in kept
    assert f"mobilevit.conv_stem.normalization.{count}" not in kept and len(kept) == 32 - 3 - 1
    assert all(int(store.read(name)) == 7 for name in kept)
    assert load(folder).architecture == dropped.architecture
