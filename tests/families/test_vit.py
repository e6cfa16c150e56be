"""ViT against transformers: bodies, classifier, image sizes, biases, names in the files."""

import pytest
import torch

from archtool.errors import InputError
from archtool.families.vit import Vit
from tests.families.encoder_checks import (
    check_config,
    check_loads,
    check_unknown_key,
    check_wrong_order_differs,
    compared,
    saved,
    shapes_of,
)
from tests.families.parity import ours

transformers = pytest.importorskip("transformers")
TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "image_size": 16, "patch_size": 4, "num_channels": 3,
}  # fmt: skip
CASES = [
    ("ViTModel", {}, {}),
    ("ViTModel", {"qkv_bias": False, "hidden_act": "gelu_new"}, {"add_pooling_layer": False}),
    ("ViTModel", {"pooler_output_size": 10, "pooler_act": "relu", "num_attention_heads": 6}, {}),
    ("ViTForImageClassification", {"num_labels": 5}, {}),
    (
        "ViTForImageClassification",
        {"num_channels": 1, "image_size": 28, "patch_size": 7, "qkv_bias": False},
        {},
    ),
    ("ViTForImageClassification", {"image_size": [8, 16], "patch_size": [4, 2], "layer_norm_eps": 1e-6}, {}),
]


def _images(config):
    side = config["image_size"]
    height, width = side if isinstance(side, list) else (side, side)
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(2, config["num_channels"], height, width, generator=generator)}


def _case(name, extra, options, folder):
    reference = getattr(transformers, name)(transformers.ViTConfig(**(TINY | extra)), **options)
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra", "options"), CASES)
def test_outputs_equal_transformers(name, extra, options, tmp_path):
    reference, tensors, config = _case(name, extra, options, tmp_path / "a")
    family, images = Vit(), _images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, images)
    check_config(family, config, tensors, arch, transformers.ViTConfig)
    check_unknown_key(family, config, tensors)
    if not options:
        config_class = transformers.ViTConfig
        check_loads(family, arch, tensors, model, type(reference), config_class, images, tmp_path / "b")


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("ViTModel", {}, {}, tmp_path)
    name = "encoder.layer.0.attention.attention.query.weight"
    check_wrong_order_differs(Vit(), config, tensors, name, 8, _images(config))


def test_a_body_with_prefix_and_a_mask_token(tmp_path):
    reference, tensors, config = _case("ViTModel", {}, {"use_mask_token": True}, tmp_path)
    assert "embeddings.mask_token" in tensors
    prefixed = {f"vit.{name}": t for name, t in tensors.items()}
    model, _ = ours(Vit(), config, prefixed)
    compared(reference, model, _images(config))


def test_after_edits_the_configuration_follows(tmp_path):
    _, tensors, config = _case("ViTForImageClassification", {}, {}, tmp_path)
    arch = Vit().read(config, shapes_of(tensors))
    narrow = Vit().write(arch.resized({"b0.ffn.hidden": 9, "b1.ffn.hidden": 9, "classes": 3}), config)
    assert narrow["intermediate_size"] == 9 and len(narrow["id2label"]) == 3
    assert Vit().write(arch.resized({"b0.ffn.hidden": 9}), config)["intermediate_size"] is None
    halved = {f"b{i}.attn.{axis}": 4 for i in range(2) for axis in ("qk", "v")}
    assert Vit().write(arch.resized(halved), config)["num_attention_heads"] is None
    slim = Vit().write(arch.resized({"s0.width": 20}), config)
    assert slim["hidden_size"] == slim["pooler_output_size"] == 20


def test_wrong_sizes_are_named(tmp_path):
    _, tensors, config = _case("ViTModel", {}, {}, tmp_path)
    with pytest.raises(InputError, match="image_size"):
        Vit().read({**config, "image_size": [8, 8, 8]}, shapes_of(tensors))


def test_reads_without_a_file():
    config = {**TINY, "model_type": "vit", "architectures": ["ViTForImageClassification"], "num_labels": 7}
    arch = Vit().read(config, {})
    assert arch.size["classes"] == 7 and arch.size["embed.patches.positions"] == 17
