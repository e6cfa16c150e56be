"""Gemma-2 against transformers' eager attention: norms, scales, caps, windows, heads, refusals."""

import pytest

from archtool.families.gemma2 import Gemma2
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
    "vocab_size": VOCAB, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 64,
    "query_pre_attn_scalar": 9, "sliding_window": 3, "attn_logit_softcapping": 0.7, "final_logit_softcapping": 2.0,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ALTERNATE = ["full_attention", "sliding_attention", "full_attention"]
CASES = [
    ("Gemma2ForCausalLM", {}),
    ("Gemma2ForCausalLM", {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10, "hidden_size": 21}),
    ("Gemma2ForCausalLM", {"num_key_value_heads": 4, "attention_bias": True, "hidden_activation": "silu",
                           "attn_logit_softcapping": None, "tie_word_embeddings": False}),
    ("Gemma2ForCausalLM", {"layer_types": ALTERNATE, "final_logit_softcapping": None, "rope_theta": 300.0}),
    ("Gemma2Model", {"query_pre_attn_scalar": 7}),
    ("Gemma2ForSequenceClassification", {"num_labels": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Gemma2(), reference, config, tensors, pad=0)
    check_config(Gemma2(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Gemma2(), config, tensors)


@pytest.mark.parametrize(
    ("key", "other"),
    [("attn_logit_softcapping", 3.0), ("final_logit_softcapping", 9.0), ("query_pre_attn_scalar", 6),
     ("sliding_window", 5), ("layer_types", ALTERNATE), ("hidden_activation", "relu")],
)  # fmt: skip
def test_each_setting_matters(key, other, tmp_path):
    reference, tensors, config = made("Gemma2ForCausalLM", TINY, tmp_path)
    wrong, _ = ours(Gemma2(), config | {key: other}, tensors)
    assert difference(reference, wrong, inputs_of()[0]) > 1e-4


def test_wrong_head_order_is_seen(tmp_path):
    reference, tensors, config = made("Gemma2ForCausalLM", TINY, tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"
    swapped = tensors[name].unflatten(0, (2, 2, 6)).transpose(0, 1).flatten(0, 2).contiguous()
    wrong, _ = ours(Gemma2(), config, tensors | {name: swapped})
    assert difference(reference, wrong, inputs_of()[0]) > 1e-3


def test_a_released_configuration_reads(tmp_path):
    config = {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
        "final_logit_softcapping": 30.0, "head_dim": 128, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 4608, "initializer_range": 0.02,
        "intermediate_size": 36864, "max_position_embeddings": 8192, "model_type": "gemma2",
        "num_attention_heads": 32, "num_hidden_layers": 46, "num_key_value_heads": 16, "pad_token_id": 0,
        "query_pre_attn_scalar": 144, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096,
        "sliding_window_size": 4096, "torch_dtype": "float32", "transformers_version": "4.42.0.dev0",
        "use_cache": True, "vocab_size": 256000, "_attn_implementation": "eager",
    }  # fmt: skip
    refused(Gemma2(), config, {}, "_attn_implementation")
    del config["_attn_implementation"]
    arch = Gemma2().read(config, {})
    attention = [block.layers[0].op for block in arch.stage("s0")]
    assert [op.window for op in attention[:3]] == [4096, 0, 4096]
    assert attention[0].scale == 1 / 12 and arch.block("head").layers[0].op.tie
    assert Gemma2().write(arch, config) == config


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("Gemma2ForCausalLM", TINY, tmp_path)
    refused(Gemma2(), config, tensors, "use_bidirectional_attention=True", use_bidirectional_attention=True)
    refused(Gemma2(), config, tensors, "mlp_bias=True", mlp_bias=True)
    refused(Gemma2(), config, tensors, "sliding_window_size=9", sliding_window_size=9)
    refused(Gemma2(), config, tensors, "no sliding_window is on", sliding_window=None)


def test_a_narrower_stream_cannot_be_said_with_the_old_factor(tmp_path):
    _, tensors, config = made("Gemma2ForCausalLM", TINY, tmp_path)
    arch = Gemma2().read(config, shapes_of(tensors))
    assert Gemma2().write(arch.resized({"s0.width": 20}), config)["hidden_size"] is None


def test_bfloat16_and_float64(tmp_path):
    reference, tensors, config = made("Gemma2ForCausalLM", TINY, tmp_path / "a")
    check_dtypes(ours(Gemma2(), config, tensors)[0], reference, tmp_path / "b", attention="eager")
