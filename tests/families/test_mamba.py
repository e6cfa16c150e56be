"""Mamba against transformers: parity, padding, states, generation, configurations there and back, refusals."""

import pytest
import torch

from archtool.families.mamba import Mamba
from tests.families.decoder_checks import (
    VOCAB,
    check_config,
    check_generation,
    check_parity,
    check_unknown_key,
    difference,
    in_dtype,
    inputs_of,
    made,
    refused,
    shapes_of,
    theirs,
)
from tests.families.parity import ours

TINY = {
    "vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 3, "state_size": 5, "bos_token_id": 1,
    "eos_token_id": 2, "time_step_rank": 3,
}  # fmt: skip
CASES = [
    ("MambaForCausalLM", {}),
    ("MambaForCausalLM", {"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": False, "expand": 3}),
    ("MambaForCausalLM", {"time_step_rank": "auto", "conv_kernel": 2, "residual_in_fp32": False, "hidden_act": "gelu",
                          "layer_norm_epsilon": 1e-3, "use_mambapy": True, "rescale_prenorm_residual": True}),
    ("MambaModel", {"state_size": 16, "expand": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Mamba(), reference, config, tensors, pad=5)
    check_config(Mamba(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Mamba(), config, tensors)


@pytest.mark.parametrize("extra", [{}, CASES[1][1]])
def test_cached_uncached_and_transformers_agree(extra, tmp_path):
    reference, tensors, config = made("MambaForCausalLM", TINY | extra, tmp_path)
    check_generation(ours(Mamba(), config, tensors)[0], reference)


def test_a_released_configuration_reads():
    config = {
        "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536, "d_model": 768,
        "eos_token_id": 0, "expand": 2, "fused_add_norm": True, "hidden_act": "silu", "hidden_size": 768,
        "initializer_range": 0.1, "intermediate_size": 1536, "layer_norm_epsilon": 1e-05, "model_type": "mamba",
        "n_layer": 24, "num_hidden_layers": 24, "pad_token_id": 0, "pad_vocab_size_multiple": 8,
        "rescale_prenorm_residual": False, "residual_in_fp32": True, "rms_norm": True, "ssm_cfg": {}, "state_size": 16,
        "time_step_floor": 0.0001, "time_step_init_scheme": "random", "time_step_max": 0.1, "time_step_min": 0.001,
        "time_step_rank": 48, "time_step_scale": 1.0, "torch_dtype": "float32", "use_bias": False, "use_cache": True,
        "use_conv_bias": True, "vocab_size": 50280,
    }  # fmt: skip
    arch = Mamba().read(config, {})
    assert arch.size["b23.ssm.inner"] == 1536 and arch.block("head").layers[0].op.tie
    assert Mamba().write(arch, config) == config
    half = Mamba().write(arch.resized({f"b{i}.ssm.inner": 768 for i in range(24)}), config)
    assert (half["expand"], half["intermediate_size"], half["d_inner"]) == (1, 768, 768)
    odd = Mamba().write(arch.resized({f"b{i}.ssm.inner": 700 for i in range(24)}), config)
    assert (odd["expand"], odd["intermediate_size"]) == (None, None)


def test_sizes_that_the_configuration_cannot_say_are_none(tmp_path):
    _, tensors, config = made("MambaForCausalLM", TINY, tmp_path)
    arch = Mamba().read(config, shapes_of(tensors))
    write = Mamba().write
    assert write(arch.resized({f"b{i}.ssm.inner": 36 for i in range(3)}), config)["expand"] is None
    assert write(arch.resized({"b0.ssm.inner": 24}), config)["expand"] is None
    assert write(arch.resized({"b1.ssm.state": 4}), config)["state_size"] is None
    uniform = write(arch.resized({f"b{i}.ssm.{axis}": 2 for i in range(3) for axis in ("state", "rank")}), config)
    assert (uniform["state_size"], uniform["time_step_rank"], uniform["expand"]) == (2, 2, 2)


@pytest.mark.parametrize(
    ("name", "rows"), [("x_proj", (3, 8, 13)), ("in_proj", (0, 48, 96)), ("A_log", (0, 24, 48)), ("conv1d", None)]
)
def test_a_wrong_order_is_seen(name, rows, tmp_path):
    """B and C, the two halves of the in-projection, channels of the decay, and the taps of the convolution."""
    reference, tensors, config = made("MambaForCausalLM", TINY, tmp_path)
    at = f"backbone.layers.1.mixer.{name}" + ("" if name == "A_log" else ".weight")
    wrong = tensors[at].clone().flip(2) if rows is None else tensors[at].clone()
    if rows:
        start, middle, end = rows
        wrong[start:end] = wrong[start:end].roll(middle - start, 0)
    model, _ = ours(Mamba(), config, tensors | {at: wrong})
    assert difference(reference, model, inputs_of()[0]) > 2e-4


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("MambaForCausalLM", TINY, tmp_path)
    refused(Mamba(), config, tensors, "ssm_cfg", ssm_cfg={"layer": "Mamba2"})
    refused(Mamba(), config, tensors, "rms_norm=False", rms_norm=False)
    refused(Mamba(), config, tensors, "mish", hidden_act="mish")
    refused(Mamba(), config, tensors, "intermediate_size=50", intermediate_size=50)
    refused(Mamba(), config, tensors, "expand is 1.5", expand=1.5)
    refused(Mamba(), config, tensors | {"score.weight": torch.ones(2, 24)}, "classifier")


@pytest.mark.parametrize("wide", [False, True])
def test_bfloat16_is_close(wide, tmp_path):
    """Transformers keeps its stream in float32 where the configuration says so; ours has the weights' dtype."""
    reference, tensors, config = made("MambaForCausalLM", TINY | {"residual_in_fp32": wide}, tmp_path / "a")
    half = type(reference).from_pretrained(tmp_path / "a", dtype=torch.bfloat16).eval()
    model, inputs = in_dtype(ours(Mamba(), config, tensors)[0], torch.bfloat16), inputs_of()[0]
    with torch.inference_mode():
        expected, got = theirs(half, inputs), model(**inputs)
    scale = expected["logits"].float().abs().max()
    assert (got["logits"].float() - expected["logits"].float()).abs().max() <= 3e-2 * scale
