"""ConvNeXt, V1 and V2, against transformers: bodies, classifier, image sizes, names in the files."""

import pytest
import torch

from archtool.families.convnext import ConvNext
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
TINY = {"hidden_sizes": [8, 12], "depths": [2, 1], "num_stages": 2, "image_size": 32, "num_channels": 3}
CASES = [
    ("ConvNextModel", {}),
    ("ConvNextForImageClassification", {"num_labels": 5, "layer_scale_init_value": 0.0, "hidden_act": "relu"}),
    ("ConvNextForImageClassification", {"num_channels": 1, "patch_size": 2, "image_size": [16, 24], "num_labels": 3}),
    ("ConvNextV2Model", {"depths": [1, 2, 1], "hidden_sizes": [4, 8, 12], "num_stages": 3}),
    ("ConvNextV2ForImageClassification", {"num_labels": 4, "layer_norm_eps": 1e-3}),
]


def images(config):
    size = config["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return {
        "pixel_values": torch.randn(
            2, config["num_channels"], height, width, generator=torch.Generator().manual_seed(1)
        )
    }


def case(name, extra, folder):
    cls = getattr(transformers, name)
    reference = cls(cls.config_class(**(TINY | extra)))
    return reference, *saved(reference, folder)


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = case(name, extra, tmp_path / "a")
    family, feed = ConvNext(), images(config)
    model, arch = ours(family, config, tensors)
    compared(reference, model, feed)
    check_config(family, config, tensors, arch, type(reference.config))
    check_unknown_key(family, config, tensors)
    check_loads(family, arch, tensors, model, type(reference), type(reference.config), feed, tmp_path / "b")


def test_another_order_of_channels_is_seen(tmp_path):
    reference, tensors, config = case("ConvNextModel", {}, tmp_path)
    wrong = dict(tensors)
    name = "encoder.stages.0.layers.0.dwconv.weight"
    wrong[name] = tensors[name].flip(0)
    model, _ = ours(ConvNext(), config, wrong)
    with pytest.raises(AssertionError):
        compared(reference, model, images(config))


def test_after_edits_the_configuration_follows(tmp_path):
    _, tensors, config = case("ConvNextForImageClassification", {"num_labels": 4}, tmp_path)
    arch = ConvNext().read(config, shapes_of(tensors))
    narrow = ConvNext().write(arch.resized({"s0.width": 6, "classes": 3}), config)
    assert narrow["hidden_sizes"] == [6, 12] and len(narrow["id2label"]) == 3


def test_reads_without_a_file():
    config = {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"], "num_labels": 7}
    arch = ConvNext().read(config, {})
    assert arch.size["classes"] == 7 and [len(arch.stage(f"s{i}")) for i in range(4)] == [3, 3, 9, 3]
