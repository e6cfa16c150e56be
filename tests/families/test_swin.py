"""Swin against transformers: bodies, classifier, shifted and padded windows, positions, names in the files."""

import pytest
import torch

from archtool.errors import InputError
from archtool.families.swin import Swin
from tests.families.encoder_checks import (
    check_config,
    check_loads,
    check_unknown_key,
    check_wrong_order_differs,
    compared,
    saved,
    shapes_of,
    swapped_heads,
)
from tests.families.parity import ours

transformers = pytest.importorskip("transformers")
TINY = {
    "image_size": 32, "patch_size": 4, "num_channels": 3, "embed_dim": 12, "depths": [2, 3], "num_heads": [2, 3],
    "window_size": 4, "mlp_ratio": 2.0, "encoder_stride": 8,
}  # fmt: skip
CASES = [
    ("SwinForImageClassification", {"num_labels": 5}),
    ("SwinModel", {"use_absolute_embeddings": True, "qkv_bias": False, "window_size": 3}),
    ("SwinModel", {"image_size": [30, 49], "patch_size": [2, 4], "hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    ("SwinForImageClassification", {"num_channels": 1, "image_size": 56, "depths": [1, 2, 3], "num_heads": [2, 4, 6]}),
]


def _images(config, seed=1):
    side = config["image_size"]
    height, width = side if isinstance(side, list) else (side, side)
    generator = torch.Generator().manual_seed(seed)
    return {"pixel_values": torch.randn(2, config["num_channels"], height, width, generator=generator)}


def _case(name, extra, folder):
    reference = getattr(transformers, name)(transformers.SwinConfig(**(TINY | extra)))
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = _case(name, extra, tmp_path / "a")
    family, images = Swin(), _images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, images)
    check_config(family, config, tensors, arch, transformers.SwinConfig)
    check_unknown_key(family, config, tensors)
    check_loads(family, arch, tensors, model, type(reference), transformers.SwinConfig, images, tmp_path / "b")


def test_wrong_orders_are_seen(tmp_path):
    _, tensors, config = _case("SwinModel", {}, tmp_path)
    attention = "encoder.layers.1.blocks.1.attention.self."
    check_wrong_order_differs(Swin(), config, tensors, f"{attention}query.weight", 8, _images(config))
    merged = swapped_heads({"w": tensors["encoder.layers.0.downsample.reduction.weight"].T}, "w", 12)["w"].T
    for name, wrong in (
        (f"{attention}relative_position_bias_table", tensors[f"{attention}relative_position_bias_table"].flip(0)),
        ("encoder.layers.0.downsample.reduction.weight", merged.contiguous()),
    ):
        right, other = (ours(Swin(), config, t)[0] for t in (tensors, {**tensors, name: wrong}))
        with torch.inference_mode():
            one, two = (model(**_images(config))["hidden"] for model in (right, other))
        assert float((one - two).abs().max()) > 1e-3, name


def test_old_files_with_an_index_and_a_mask_token(tmp_path):
    reference = transformers.SwinModel(transformers.SwinConfig(**TINY), use_mask_token=True)
    tensors, config = saved(reference, tmp_path)
    index = {f"encoder.layers.0.blocks.{i}.attention.self.relative_position_index": torch.arange(256) for i in (0, 1)}
    model, _ = ours(Swin(), {**config, "path_norm": True}, tensors | index)
    assert "embeddings.mask_token" in tensors
    compared(reference, model, _images(config))


def test_after_edits_the_configuration_follows(tmp_path):
    _, tensors, config = _case("SwinForImageClassification", {}, tmp_path)
    arch = Swin().read(config, shapes_of(tensors))
    write = Swin().write
    halved = {"b0.ffn.hidden": 18, "b1.ffn.hidden": 18, **{f"b{i}.ffn.hidden": 37 for i in (2, 3, 4)}}
    ratio = write(arch.resized(halved), config)["mlp_ratio"]
    assert int(ratio * 12) == 18 and int(ratio * 24) == 37
    assert write(arch.resized({"b0.ffn.hidden": 9}), config)["mlp_ratio"] is None
    assert write(arch.resized({**halved, "b0.ffn.hidden": 12, "b1.ffn.hidden": 12}), config)["mlp_ratio"] is None
    assert write(arch.resized({"b0.attn.kv": 1, "b1.attn.kv": 1}), config)["num_heads"] is None
    assert write(arch.resized({"s1.width": 20}), config)["embed_dim"] is None
    narrow = write(arch.resized({"s0.width": 10, "s1.width": 20}), config)
    assert (narrow["embed_dim"], narrow["hidden_size"], narrow["num_heads"]) == (10, 20, None)


def test_a_window_larger_than_a_grid_is_no_stock_model():
    config = {**TINY, "model_type": "swin", "window_size": 5}
    assert Swin().write(Swin().read(config, {}), config)["window_size"] is None
    config["window_size"] = 4
    assert Swin().write(Swin().read(config, {}), config)["window_size"] == 4


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"architectures": ["SwinForMaskedImageModeling"]}, "SwinForMaskedImageModeling"),
        ({"depths": [2, 0]}, "depths"),
        ({"num_heads": [2]}, "num_heads"),
        ({"num_heads": [5, 3]}, "stage 0"),
        ({"image_size": 30, "use_absolute_embeddings": True}, "image_size"),
    ],
)
def test_what_is_not_supported_is_named(wrong, named):
    with pytest.raises(InputError, match=named):
        Swin().read({**TINY, "model_type": "swin", **wrong}, {})
