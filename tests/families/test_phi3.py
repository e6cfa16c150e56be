"""Phi-3 against transformers: fused projections, partial rotation, windows, heads, refusals."""

from dataclasses import replace

import pytest
import torch

from archtool.families.phi3 import Phi3
from archtool.model.generate import generate
from archtool.operators.rotary import frequencies
from tests.families.decoder_checks import (
    VOCAB,
    check_config,
    check_dtypes,
    check_parity,
    check_unknown_key,
    difference,
    inputs_of,
    made,
    refused,
    shapes_of,
)
from tests.families.parity import ours

TINY = {
    "vocab_size": VOCAB, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "original_max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
CASES = [
    ("Phi3ForCausalLM", {}),
    ("Phi3ForCausalLM", {"num_attention_heads": 2, "num_key_value_heads": 1, "partial_rotary_factor": 0.7,
                         "tie_word_embeddings": True, "sliding_window": 3}),
    ("Phi3ForCausalLM", {"num_key_value_heads": 4, "partial_rotary_factor": 0.4, "hidden_act": "gelu"}),
    ("Phi3ForCausalLM", {"head_dim": 10, "num_attention_heads": 3, "num_key_value_heads": 3, "rope_theta": 300.0}),
    ("Phi3Model", {"sliding_window": 4, "num_key_value_heads": None}),
    ("Phi3ForSequenceClassification", {"num_labels": 3, "partial_rotary_factor": 0.7}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Phi3(), reference, config, tensors, pad=0)
    check_config(Phi3(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Phi3(), config, tensors)


def test_fused_tensors_are_split():
    arch = Phi3().read(TINY | {"model_type": "phi3"}, {})
    pieces = {e.file.split(".")[-2]: e.pieces for e in Phi3().names(arch) if "layers.1" in e.file}
    assert pieces["qkv_proj"] == tuple(f"b1.attn.{part}.weight" for part in "qkv")
    assert pieces["gate_up_proj"] == ("b1.ffn.gate.weight", "b1.ffn.up.weight")


@pytest.mark.parametrize(
    ("name", "rows"),
    [("self_attn.qkv_proj", slice(0, 24)), ("self_attn.qkv_proj", slice(24, 48)), ("mlp.gate_up_proj", slice(0, 80))],
)
def test_wrong_order_is_seen(name, rows, tmp_path):
    reference, tensors, config = made("Phi3ForCausalLM", TINY, tmp_path)
    name = f"model.layers.0.{name}.weight"
    wrong = tensors[name].clone()
    wrong[rows] = wrong[rows].roll(wrong[rows].shape[0] // 2, 0)
    model, _ = ours(Phi3(), config, tensors | {name: wrong})
    assert difference(reference, model, inputs_of()[0]) > 1e-3


def test_a_released_configuration_reads():
    config = {
        "_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"], "attention_bias": False,
        "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "bos_token_id": 1,
        "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 4096,
        "model_type": "phi3", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.40.2",
        "use_cache": True, "vocab_size": 32064,
    }  # fmt: skip
    arch = Phi3().read(config, {})
    attention = arch.block("b31").layers[0].op
    assert attention.window == 2047 and arch.size["b0.attn.pairs"] == 48 and not attention.bias
    assert Phi3().write(arch, config) == config
    narrow = arch.resized({"s0.width": 2560})
    assert Phi3().write(narrow, config) == config | {"hidden_size": 2560, "head_dim": 96}


def _longrope(**extra):
    generator = torch.Generator().manual_seed(2)
    short, long = ((1 + 3 * torch.rand(4, generator=generator)).tolist() for _ in range(2))
    rope = {"rope_type": "longrope", "short_factor": short, "long_factor": long, "rope_theta": 300.0}
    return TINY | {"head_dim": 8, "hidden_size": 32, "rope_parameters": rope} | extra


@pytest.mark.parametrize("switch", [10, 11, 64])
def test_longrope_on_both_sides_of_the_switch(switch, tmp_path):
    settings = _longrope(original_max_position_embeddings=switch)
    reference, tensors, config = made("Phi3ForCausalLM", settings, tmp_path / "a")
    model, arch, _ = check_parity(Phi3(), reference, config, tensors, pad=0)
    check_config(Phi3(), arch, config, tensors, model, reference, tmp_path / "b")
    other, _ = ours(Phi3(), config | {"original_max_position_embeddings": 10 if switch > 10 else 11}, tensors)
    assert difference(reference, other, inputs_of()[0]) > 1e-4


def test_longrope_in_old_spellings(tmp_path):
    settings = _longrope(original_max_position_embeddings=8)
    reference, tensors, config = made("Phi3ForCausalLM", settings, tmp_path)
    rope = config.pop("rope_parameters")
    old = {"type": "su", **{k: rope[k] for k in ("short_factor", "long_factor")}}
    _, arch, _ = check_parity(Phi3(), reference, config | {"rope_theta": 300.0, "rope_scaling": old}, tensors)
    narrow = replace(arch.block("b0").layers[0].op.rotary, kept=(3, 1))
    two = frequencies(narrow)
    assert [len(row) for row in two] == [2, 2] and two[0] != two[1]
    refused(Phi3(), config, tensors, "4 numbers", rope_scaling=old | {"long_factor": [1.0]})


def test_longrope_generates_across_the_switch(tmp_path):
    settings = _longrope(original_max_position_embeddings=10)
    reference, tensors, config = made("Phi3ForCausalLM", settings, tmp_path)
    model, _ = ours(Phi3(), config, tensors)
    ids = inputs_of(tokens=6)[0]["input_ids"]
    kept = generate(model, ids, 12)
    assert torch.equal(kept, generate(model, ids, 12, cache=False))
    expected = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
                                  eos_token_id=None)  # fmt: skip
    assert torch.equal(kept, expected)


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("Phi3ForCausalLM", TINY, tmp_path)
    for kind in ("linear", "llama3", "dynamic"):
        refused(Phi3(), config, tensors, kind, rope_parameters={"rope_type": kind, "factor": 2.0})
    refused(Phi3(), config, tensors, "must be pairs", rope_parameters={"partial_rotary_factor": 0.5})
    refused(Phi3(), config, tensors, "attention_bias=True", attention_bias=True)
    refused(Phi3(), config, tensors, "lm_head_bias=True", lm_head_bias=True)
    assert Phi3().read(config, shapes_of(tensors)).size["b0.attn.pairs"] == 3


def test_bfloat16_and_float64(tmp_path):
    reference, tensors, config = made("Phi3ForCausalLM", TINY | {"sliding_window": 3}, tmp_path / "a")
    check_dtypes(ours(Phi3(), config, tensors)[0], reference, tmp_path / "b")
