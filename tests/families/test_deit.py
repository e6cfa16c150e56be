"""DeiT against transformers: distillation token, one classifier or the mean of two."""

import pytest
import torch

from archtool.families.deit import Deit
from tests.families.encoder_checks import (
    check_config,
    check_loads,
    check_unknown_key,
    check_wrong_order_differs,
    compared,
    saved,
    swapped_heads,
)
from tests.families.parity import ours

transformers = pytest.importorskip("transformers")
TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "image_size": 16, "patch_size": 4, "num_channels": 3,
}  # fmt: skip
CASES = [
    ("DeiTModel", {}, {}),
    ("DeiTModel", {"num_attention_heads": 6, "hidden_act": "relu"}, {"add_pooling_layer": False}),
    ("DeiTForImageClassification", {"num_labels": 5, "qkv_bias": False}, {}),
    ("DeiTForImageClassificationWithTeacher", {"num_labels": 4, "num_channels": 1}, {}),
]


def _images(config):
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(2, config["num_channels"], 16, 16, generator=generator)}


def _case(name, extra, options, folder):
    reference = getattr(transformers, name)(transformers.DeiTConfig(**(TINY | extra)), **options)
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra", "options"), CASES)
def test_outputs_equal_transformers(name, extra, options, tmp_path):
    reference, tensors, config = _case(name, extra, options, tmp_path / "a")
    family, images = Deit(), _images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, images)
    check_config(family, config, tensors, arch, transformers.DeiTConfig)
    check_unknown_key(family, config, tensors)
    if not options:
        config_class = transformers.DeiTConfig
        check_loads(family, arch, tensors, model, type(reference), config_class, images, tmp_path / "b")


def test_both_classifiers_count(tmp_path):
    _, tensors, config = _case("DeiTForImageClassificationWithTeacher", {}, {}, tmp_path)
    right, _ = ours(Deit(), config, tensors)
    images = _images(config)
    for name in ("cls_classifier.weight", "distillation_classifier.weight"):
        other, _ = ours(Deit(), config, swapped_heads(tensors, name, 1))
        with torch.inference_mode():
            assert float((right(**images)["logits"] - other(**images)["logits"]).abs().max()) > 1e-3


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("DeiTModel", {}, {}, tmp_path)
    name = "encoder.layer.0.attention.attention.key.weight"
    check_wrong_order_differs(Deit(), config, tensors, name, 8, _images(config))
