"""MobileViT and MobileViTv2 against transformers: bodies, classifiers, strides, uneven grids, names in the files."""

import pytest
import torch

from archtool.errors import InputError
from archtool.families.mobilevit import MobileVit
from archtool.families.mobilevitv2 import MobileVitV2
from archtool.ir.table import axis_claims
from tests.families.encoder_checks import check_config, check_unknown_key, compared, shapes_of
from tests.families.parity import file_tensors, ours

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


def lively(model):
    """Weights under which every layer matters: BatchNorm's small initial gains would let all but the last ones fade."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.dim() > 1:
                tensor.copy_(noise * (2.0 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                tensor.copy_(noise * 0.3 + name.endswith(("norm.weight", "normalization.weight", "before.weight")))
            else:
                tensor.fill_(7)
    return model.eval()


def images(config):
    side = config["image_size"]
    height, width = side if isinstance(side, list) else (side, side)
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(2, config["num_channels"], height, width, generator=generator)}


def on_tokens(reference):
    """The reference with its grids (B, C, H, W) as tokens."""

    def call(**inputs):
        out = dict(reference(**inputs))
        return {k: v.flatten(2).transpose(1, 2) if v.dim() == 4 else v for k, v in out.items()}

    return call


@pytest.mark.parametrize(("name", "extra"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config, family, config_class = made(name, extra, tmp_path / "a")
    model, arch = ours(family, config, tensors)
    compared(on_tokens(reference), model, images(config))
    first, second = model(**images(config))["hidden"]
    assert (first - second).abs().mean() > 0.1 * first.abs().mean()
    fresh = check_config(family, config, tensors, arch, config_class)
    assert fresh["architectures"] == [name]
    check_unknown_key(family, config, tensors)
    assert family.read(config, {}) == arch
