"""SegFormer against transformers: body, classifier, decode head; lists with one value per stage."""

import pytest
import torch

from archtool.errors import InputError
from archtool.families.segformer import Segformer
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
    "decoder_hidden_size": 12, "image_size": 40,
}  # fmt: skip
CASES = [
    ("SegformerModel", {}),
    ("SegformerModel", {"reshape_last_stage": False, "hidden_act": "gelu_new"}),
    ("SegformerForImageClassification", {"num_labels": 5, "num_channels": 1}),
    ("SegformerForSemanticSegmentation", {"num_labels": 5}),
    (
        "SegformerForSemanticSegmentation",
        {"num_labels": 3, "sr_ratios": [1, 3, 2], "patch_sizes": [5, 3, 2], "hidden_act": "relu", "image_size": 46},
    ),
]


def _images(config):
    generator = torch.Generator().manual_seed(1)
    side = config["image_size"]
    return {"pixel_values": torch.randn(2, config["num_channels"], side, side + 8, generator=generator)}


def _case(name, extra, folder):
    torch.manual_seed(0)
    reference = getattr(transformers, name)(transformers.SegformerConfig(**(TINY | extra)))
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = _case(name, extra, tmp_path / "a")
    family, images = Segformer(), _images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, images)
    check_config(family, config, tensors, arch, transformers.SegformerConfig)
    check_unknown_key(family, config, tensors)
    check_loads(family, arch, tensors, model, type(reference), transformers.SegformerConfig, images, tmp_path / "b")


def test_segmentation_leaves_a_quarter_of_the_image(tmp_path):
    _, tensors, config = _case("SegformerForSemanticSegmentation", {"num_labels": 5}, tmp_path)
    model, _ = ours(Segformer(), config, tensors)
    with torch.inference_mode():
        assert model(**_images(config))["logits"].shape == (2, 5, 10, 12)


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("SegformerModel", {}, tmp_path)
    name = "encoder.block.1.0.attention.self.query.weight"
    check_wrong_order_differs(Segformer(), config, tensors, name, 6, _images(config))


def test_levels_of_the_decode_head_keep_their_order(tmp_path):
    _, tensors, config = _case("SegformerForSemanticSegmentation", {}, tmp_path)
    name = "decode_head.linear_fuse.weight"
    turned = {**tensors, name: tensors[name].roll(12, dims=1)}
    with torch.inference_mode():
        one, two = (ours(Segformer(), config, t)[0](**_images(config))["logits"] for t in (tensors, turned))
    assert (one - two).abs().max() > 1e-2


def test_after_edits_the_configuration_follows(tmp_path):
    _, tensors, config = _case("SegformerForSemanticSegmentation", {}, tmp_path)
    arch = Segformer().read(config, shapes_of(tensors))

    def said(**sizes):
        changes = {axis.replace("_", ".", 2): n for axis, n in sizes.items()}
        assert set(changes) <= set(arch.size)
        return Segformer().write(arch.resized(changes), config)

    assert said(b0_ffn_hidden=24)["mlp_ratios"] == [3, 3, 2]
    assert said(b0_ffn_hidden=9)["mlp_ratios"] == [1.125, 3, 2]
    assert said(b1_ffn_hidden=24)["mlp_ratios"] is None
    assert said(b0_attn_inner=4)["num_attention_heads"] is None
    assert said(b3_attn_kv=2, b3_attn_qk=8, b3_attn_v=8)["num_attention_heads"] is None
    assert said(head_fuse_inner=8)["decoder_hidden_size"] is None
    assert said(head_fuse_inner=8, head_fuse_units=8)["decoder_hidden_size"] == 8


@pytest.mark.parametrize(
    ("key", "value"),
    [("depths", [1, 2]), ("sr_ratios", [4, 0, 1]), ("mlp_ratios", "2"), ("num_attention_heads", [1, 5, 4])],
)
def test_wrong_settings_are_named(key, value, tmp_path):
    _, tensors, config = _case("SegformerModel", {}, tmp_path)
    with pytest.raises(InputError, match=key):
        Segformer().read({**config, key: value}, shapes_of(tensors))


def test_reads_without_a_file():
    config = {**TINY, "architectures": ["SegformerForSemanticSegmentation"], "num_labels": 7, "model_type": "segformer"}
    arch = Segformer().read(config, {})
    assert arch.size["classes"] == 7 and arch.fact["prefix"] == "segformer."
    assert [len(arch.stage(f"s{i}")) for i in range(3)] == [1, 2, 1]
    with pytest.raises(InputError, match="reshape_last_stage"):
        Segformer().read({**config, "reshape_last_stage": False}, {})
