"""PatchTST against transformers: forecaster, classifier, regressor and body under every switch that is supported."""

from dataclasses import replace

import pytest
import torch

from archtool.errors import InputError
from archtool.export.model import chosen, export_model
from archtool.export.verify import record, verify
from archtool.families.patchtst import PatchTst
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, RefusedEdit, Select
from archtool.model.apply import apply
from archtool.model.checkpoint import Source
from tests.families.encoder_checks import (
    check_config,
    check_unknown_key,
    compared,
    saved,
    swapped_heads,
)
from tests.families.parity import ours
from tests.operators import checks

transformers = pytest.importorskip("transformers")
TINY = {
    "num_input_channels": 3, "context_length": 30, "patch_length": 8, "patch_stride": 4, "d_model": 24, "ffn_dim": 40,
    "num_attention_heads": 4, "num_hidden_layers": 2, "prediction_length": 5, "num_targets": 4,
}  # fmt: skip
FIELDS = {"forecast": "prediction_outputs", "hidden": "last_hidden_state"}
CASES = [
    ("ForPrediction", {}),
    ("ForPrediction", {"pooling_type": None, "pre_norm": False, "positional_encoding_type": "random"}),
    ("ForPrediction", {"pooling_type": "max", "scaling": "mean", "share_embedding": False, "norm_type": "layernorm"}),
    ("ForPrediction", {"use_cls_token": True, "scaling": None, "bias": False, "activation_function": "relu"}),
    ("ForPrediction", {"scaling": True, "norm_eps": 1e-3, "patch_stride": 7, "num_attention_heads": 6}),
    ("ForClassification", {"use_cls_token": True}),
    ("ForClassification", {"pooling_type": "max", "norm_type": "layernorm", "pre_norm": False}),
    ("ForRegression", {"scaling": "mean"}),
    ("Model", {"share_embedding": False, "use_cls_token": True}),
    ("ForPrediction", {"channel_attention": True}),
    ("ForClassification", {"channel_attention": True, "pre_norm": False, "norm_type": "layernorm"}),
]


def case(name, extra, folder):
    torch.manual_seed(0)
    reference = getattr(transformers, f"PatchTST{name}")(transformers.PatchTSTConfig(**(TINY | extra)))
    tensors, config = saved(reference, folder)
    return reference, tensors, config


def series(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {"past_values": 3 + 2 * torch.randn(2, 30, 3, generator=generator)}


def fields(name):
    return FIELDS | {"logits": "prediction_logits" if name == "ForClassification" else "regression_outputs"}


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = case(name, extra, tmp_path / "a")
    family = PatchTst()
    model, arch = ours(family, config, tensors)
    compared(reference, model, series(), fields(name))
    check_config(family, config, tensors, arch, transformers.PatchTSTConfig)
    check_unknown_key(family, config, tensors)
    fresh = family.write(arch, {})
    assert fresh["architectures"] == [type(reference).__name__]
    made = type(reference)(transformers.PatchTSTConfig(**fresh)).eval()
    made.load_state_dict(tensors)
    compared(made, model, series(2), fields(name))


@pytest.mark.parametrize("scaling", ["std", "mean"])
def test_rows_that_were_not_observed_count_for_nothing(scaling, tmp_path):
    reference, tensors, config = case("ForPrediction", {"scaling": scaling}, tmp_path)
    model, _ = ours(PatchTst(), config, tensors)
    mask = torch.ones(2, 30, 3)
    mask[0, :12, 1] = mask[1, :, 2] = 0
    compared(reference, model, series() | {"past_observed_mask": mask}, FIELDS)


def test_running_statistics_are_used_and_kept(tmp_path):
    reference, tensors, config = case("ForPrediction", {}, tmp_path)
    other = {n: t + 0.5 if n.endswith("running_mean") else t for n, t in tensors.items()}
    (right, _), (wrong, _) = (ours(PatchTst(), config, found) for found in (tensors, other))
    with torch.inference_mode():
        assert (right(**series())["forecast"] - wrong(**series())["forecast"]).abs().max() > 1e-3
    before = {n: t.clone() for n, t in right.state_dict().items() if "running" in n}
    right.train()(**series())
    reference.train()(**series())
    theirs = reference.state_dict()["model.encoder.layers.1.norm_sublayer3.batchnorm.running_var"]
    assert torch.allclose(right.get_buffer("b1.ffn.pre.running_var"), theirs, atol=1e-6)
    assert not torch.equal(right.get_buffer("b1.ffn.pre.running_var"), before["b1.ffn.pre.running_var"])


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = case("ForPrediction", {}, tmp_path)
    name = "model.encoder.layers.0.self_attn.q_proj.weight"
    (right, _), (wrong, _) = (ours(PatchTst(), config, found) for found in (tensors, swapped_heads(tensors, name, 6)))
    with torch.inference_mode():
        assert (right(**series())["forecast"] - wrong(**series())["forecast"]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ForPrediction", {"share_projection": False}),
        ("ForPrediction", {"loss": "nll"}),
        ("ForPrediction", {"scaling": "median"}),
        ("ForPrediction", {"res_attention": True}),
        ("ForPrediction", {"pooling_type": "sum"}),
        ("ForClassification", {"pooling_type": None}),
        ("ForRegression", {"output_range": [0, 1]}),
        ("Model", {"do_mask_input": True}),
        ("Model", {"architectures": ["PatchTSTForPretraining"]}),
        ("Model", {"norm_type": "rmsnorm"}),
        ("Model", {"patch_length": 30}),
    ],
)
def test_what_is_not_supported_is_named(name, change):
    config = {**TINY, "model_type": "patchtst", "architectures": [f"PatchTST{name}"]}
    PatchTst().read(config, {})
    with pytest.raises(InputError) as caught:
        PatchTst().read({**config, **change}, {})
    key, value = next(iter(change.items()))
    assert key in caught.value.what or str(value[0]) in caught.value.what


OTHERS = {
    "channels": {"model_type": "patchtst", "channel_attention": True},
    "own": {"model_type": "patchtst_supervised", "pre_norm": False, "pooling_type": None, "context_length": 32},
}


@pytest.mark.parametrize("which", OTHERS)
def test_relatives_are_costed_and_cut_like_any_model(which):
    config = {**TINY, "architectures": ["PatchTSTForPrediction"], **OTHERS[which]}
    arch = PatchTst().read(config, {})
    assert PatchTst().write(arch, config) == config
    assert PatchTst().read(PatchTst().write(arch, {}), {}) == arch
    checks.check_data(arch)
    checks.check_cost(arch)
    checks.check_masked(arch)


def test_attention_across_channels_may_be_dropped_and_is_shipped(tmp_path):
    config = {**TINY, "architectures": ["PatchTSTForPrediction"], **OTHERS["channels"]}
    checkpoint = replace(checks.made(PatchTst().read(config, {})), source=Source(config=config))
    assert chosen(checkpoint)[0] == "stock"
    edit = Edit("test", (Drop("b1v"), Select(Selection("b0.attn.kv", (0, 2)))))
    small = apply(checkpoint, edit)
    assert [block.name for block in small.architecture.stage("s0")] == ["b0", "b0v", "b1"]
    with pytest.raises(RefusedEdit, match="b0 owns tensors"):
        apply(checkpoint, Edit("test", (Drop("b0"),)))
    exported = export_model(small, tmp_path / "model")
    record(small, exported, tmp_path)
    assert exported.dialect == "remote" and verify(tmp_path)[0].max_abs_diff <= 1e-5


def test_scores_that_add_up_keep_their_layers_and_their_heads():
    config = {**TINY, "architectures": ["PatchTSTForPrediction"], **OTHERS["own"]}
    checkpoint = replace(checks.made(PatchTst().read(config, {})), source=Source(config=config))
    name, _, reasons = chosen(checkpoint)
    assert name == "remote" and "no class for model_type 'patchtst_supervised'" in dict(reasons)["stock"]
    with pytest.raises(RefusedEdit, match=r"b0\.attn\.scores is shared by b0\.attn and b1\.attn"):
        apply(checkpoint, Edit("test", (Select(Selection("b0.attn.kv", (0, 2))),)))
    with pytest.raises(RefusedEdit, match=r"owns b0\.attn\.scores"):
        apply(checkpoint, Edit("test", (Drop("b0", "attn"),)))
    apply(checkpoint, Edit("test", (Drop("b1", "attn"),)))


def test_after_edits_the_configuration_follows():
    config = {**TINY, "model_type": "patchtst", "architectures": ["PatchTSTForPrediction"]}
    family = PatchTst()
    arch = family.read(config, {})
    narrow = family.write(arch.resized({"b0.ffn.hidden": 9, "b1.ffn.hidden": 9, "s0.width": 20}), config)
    assert (narrow["ffn_dim"], narrow["d_model"], narrow["num_attention_heads"]) == (9, 20, None)
    assert family.write(arch.resized({"b0.ffn.hidden": 9}), config)["ffn_dim"] is None
