"""PVT v2 against transformers: strided and pooled attention, biases, classifier."""

import pytest
import torch

from archtool.families.pvt_v2 import PvtV2
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
    "num_encoder_blocks": 3, "depths": [1, 2, 1], "sr_ratios": [4, 2, 1], "hidden_sizes": [8, 12, 16],
    "patch_sizes": [7, 3, 3], "strides": [4, 2, 2], "num_attention_heads": [1, 2, 4], "mlp_ratios": [2, 3, 2],
    "image_size": [40, 48],
}  # fmt: skip
CASES = [
    ("PvtV2Model", {}),
    ("PvtV2Model", {"linear_attention": True, "hidden_act": "silu"}),
    ("PvtV2ForImageClassification", {"num_labels": 5, "qkv_bias": False, "layer_norm_eps": 1e-3}),
    ("PvtV2ForImageClassification", {"num_labels": 3, "linear_attention": True, "image_size": 64, "num_channels": 1}),
]


def _images(config):
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(2, config["num_channels"], *config["image_size"], generator=generator)}


def _case(name, extra, folder):
    torch.manual_seed(0)
    reference = getattr(transformers, name)(transformers.PvtV2Config(**(TINY | extra)))
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = _case(name, extra, tmp_path / "a")
    family, images = PvtV2(), _images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, images)
    check_config(family, config, tensors, arch, transformers.PvtV2Config)
    check_unknown_key(family, config, tensors)
    check_loads(family, arch, tensors, model, type(reference), transformers.PvtV2Config, images, tmp_path / "b")


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("PvtV2Model", {}, tmp_path)
    name = "encoder.layers.1.blocks.1.attention.query.weight"
    check_wrong_order_differs(PvtV2(), config, tensors, name, 6, _images(config))


def test_after_edits_the_configuration_follows(tmp_path):
    _, tensors, config = _case("PvtV2ForImageClassification", {"linear_attention": True}, tmp_path)
    arch = PvtV2().read(config, shapes_of(tensors))
    assert PvtV2().write(arch, config)["sr_ratios"] == [4, 2, 1]
    smaller = PvtV2().write(arch.resized({"b0.ffn.hidden": 8, "classes": 3}), config)
    assert smaller["mlp_ratios"] == [1, 3, 2] and len(smaller["id2label"]) == 3
    assert PvtV2().write(arch.resized({"s1.width": 10}), config)["num_attention_heads"] is None
