"""PoolFormer against transformers: body, classifier, strides, ratios, names in the files."""

import pytest
import torch

from archtool.errors import InputError
from archtool.families.poolformer import PoolFormer
from tests.families.encoder_checks import (
    check_config,
    check_loads,
    check_unknown_key,
    compared,
    saved,
    shapes_of,
)
from tests.families.parity import ours

transformers = pytest.importorskip("transformers")
TINY = {"hidden_sizes": [8, 12], "depths": [2, 1], "num_encoder_blocks": 2}
CASES = [
    ("PoolFormerModel", {}),
    ("PoolFormerModel", {"pool_size": 5, "patch_sizes": [5, 2], "strides": [3, 2], "padding": [2, 0],
                         "mlp_ratio": 2.5}),
    ("PoolFormerForImageClassification", {"num_labels": 5, "use_layer_scale": False, "hidden_act": "relu"}),
    ("PoolFormerForImageClassification", {"num_labels": 3, "num_channels": 1, "depths": [1, 1, 2],
                                          "hidden_sizes": [4, 6, 8], "num_encoder_blocks": 3}),
]  # fmt: skip


def images(config, size=33):
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(2, config["num_channels"], size, size, generator=generator)}


def case(name, extra, folder):
    cls = getattr(transformers, name)
    reference = cls(transformers.PoolFormerConfig(**(TINY | extra)))
    return reference, *saved(reference, folder)


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = case(name, extra, tmp_path / "a")
    family, feed = PoolFormer(), images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, feed)
    check_config(family, config, tensors, arch, transformers.PoolFormerConfig)
    check_unknown_key(family, config, tensors)
    check_loads(family, arch, tensors, model, type(reference), transformers.PoolFormerConfig, feed, tmp_path / "b")


def test_gains_of_the_two_branches_are_not_exchanged(tmp_path):
    reference, tensors, config = case("PoolFormerModel", {}, tmp_path)
    one, two = (f"encoder.block.0.0.layer_scale_{i}" for i in (1, 2))
    model, _ = ours(PoolFormer(), config, {**tensors, one: tensors[two], two: tensors[one]})
    with pytest.raises(AssertionError):
        compared(reference, model, images(config))


def test_after_edits_the_configuration_follows(tmp_path):
    _, tensors, config = case("PoolFormerForImageClassification", {"num_labels": 4}, tmp_path)
    arch, family = PoolFormer().read(config, shapes_of(tensors)), PoolFormer()
    halved = family.write(arch.resized({"b0.ffn.hidden": 16, "b1.ffn.hidden": 16, "b2.ffn.hidden": 24}), config)
    assert halved["mlp_ratio"] == 2.0 and family.write(arch, config) == config
    assert family.write(arch.resized({"b0.ffn.hidden": 16}), config)["mlp_ratio"] is None
    assert family.write(arch.resized({"s1.width": 6, "b2.ffn.hidden": 24}), config)["hidden_sizes"] == [8, 6]


def test_wrong_lists_are_named():
    with pytest.raises(InputError, match="strides"):
        PoolFormer().read({"model_type": "poolformer", "strides": [4, 2]}, {})


def test_reads_without_a_file():
    config = {"model_type": "poolformer", "architectures": ["PoolFormerForImageClassification"], "num_labels": 7}
    arch = PoolFormer().read(config, {})
    assert arch.size["classes"] == 7 and arch.fact["image_height"] == 224
