"""The Llama line against transformers: types, rope scalings, windows, heads, spellings, refusals."""

from dataclasses import replace

import pytest
import torch

from archtool.families.llama import Llama
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
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
}  # fmt: skip
SCALED = {
    "llama3": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 16},
    "linear": {"rope_type": "linear", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn-all": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8.0,
                 "beta_slow": 2.0, "truncate": False, "mscale": 1.0, "mscale_all_dim": 0.5},
}  # fmt: skip
CASES = [
    ("LlamaForCausalLM", {}),
    ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu_new"}),
    ("LlamaForCausalLM", {"num_key_value_heads": 4, "head_dim": 10, "tie_word_embeddings": True, "rope_theta": 5e5}),
    ("LlamaForCausalLM", {"num_key_value_heads": 1, "num_attention_heads": 3, "hidden_act": "relu"}),
    ("LlamaModel", {"num_key_value_heads": 1}),
    ("LlamaModel", {"tie_word_embeddings": True}),
    ("LlamaForTokenClassification", {"num_labels": 3}),
    ("MistralForCausalLM", {"sliding_window": 3}),
    ("MistralForCausalLM", {"sliding_window": None, "head_dim": 16}),
    ("MistralModel", {"sliding_window": 4, "num_attention_heads": 6, "num_key_value_heads": 3}),
    ("Qwen2ForCausalLM", {}),
    ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 4, "tie_word_embeddings": True,
                          "layer_types": ["sliding_attention", "full_attention"]}),
    ("Qwen3ForCausalLM", {"head_dim": 10}),
    ("Qwen3ForCausalLM", {"head_dim": 12, "attention_bias": True, "tie_word_embeddings": True}),
    ("Qwen3Model", {"head_dim": 4, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Llama(), reference, config, tensors)
    check_config(Llama(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Llama(), config, tensors)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("old", [False, True])
def test_rope_scalings_in_both_spellings(name, old, tmp_path):
    settings = TINY | {"head_dim": 16, "rope_parameters": {"rope_theta": 300.0, **SCALED[name]}}
    reference, tensors, config = made("LlamaForCausalLM", settings, tmp_path / "a")
    if old:
        del config["rope_parameters"]
        scaling = {("type" if k == "rope_type" else k): v for k, v in SCALED[name].items()}
        config |= {"rope_theta": 300.0, "rope_scaling": scaling}
    model, arch, _ = check_parity(Llama(), reference, config, tensors)
    check_config(Llama(), arch, config, tensors, model, reference, tmp_path / "b")
    default = Llama().read({k: v for k, v in config.items() if not k.startswith("rope")}, shapes_of(tensors))
    plain = ours(Llama(), Llama().write(default, {}), tensors)[0]
    assert difference(reference, plain, inputs_of()[0]) > 1e-3


def test_the_original_length_beside_the_scaling_wins(tmp_path):
    settings = TINY | {"rope_scaling": {"type": "yarn", "factor": 2.0}, "original_max_position_embeddings": 16}
    reference, tensors, _ = made("LlamaForCausalLM", settings, tmp_path)
    _, arch, _ = check_parity(Llama(), reference, settings | {"model_type": "llama"}, tensors)
    assert ("original_max_position_embeddings", 16.0) in arch.block("b0").layers[0].op.rotary.settings


@pytest.mark.parametrize("pad", [None, 5])
def test_sequence_classifier(pad, tmp_path):
    settings = TINY | {"num_labels": 3, "pad_token_id": pad}
    reference, tensors, config = made("LlamaForSequenceClassification", settings, tmp_path / "a")
    if pad is None:
        model, _ = ours(Llama(), config, tensors)
        single = {"input_ids": inputs_of()[0]["input_ids"][:1]}
        assert difference(reference, model, single) <= 1e-5
        return
    model, arch, _ = check_parity(Llama(), reference, config, tensors, pad=pad)
    check_config(Llama(), arch, config, tensors, model, reference, tmp_path / "b")
    fewer = Llama().write(arch.resized({"score.score.units": 4}), config)
    assert len(fewer["id2label"]) == 4


def test_a_tied_head_that_is_stored_again(tmp_path):
    reference, tensors, config = made("LlamaForCausalLM", TINY | {"tie_word_embeddings": True}, tmp_path)
    stored_twice = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    _, arch, _ = check_parity(Llama(), reference, config, stored_twice)
    assert sum(e.pieces == ("embed.tokens.token.weight",) for e in Llama().names(arch)) == 2


def test_heads_by_class_name_and_by_tensors(tmp_path):
    _, tensors, config = made("LlamaModel", TINY | {"tie_word_embeddings": True}, tmp_path)
    prefixed = shapes_of({f"model.{name}": t for name, t in tensors.items()})
    outputs = [
        (config, prefixed, {"hidden"}),
        (config | {"architectures": ["LlamaForCausalLM"]}, shapes_of(tensors), {"hidden", "logits"}),
        (config | {"architectures": None}, prefixed, {"hidden", "logits"}),
        (config | {"architectures": None, "tie_word_embeddings": False}, prefixed, {"hidden"}),
        (config, {}, {"hidden"}),
        (config | {"architectures": ["LlamaForSequenceClassification"]}, {}, {"hidden", "logits"}),
    ]
    for said, shapes, names in outputs:
        assert {name for name, _ in Llama().read(said, shapes).outputs} == names


def test_frequencies_in_old_files_are_carried(tmp_path):
    reference, tensors, config = made("LlamaForCausalLM", TINY, tmp_path)
    old = tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    check_parity(Llama(), reference, config, old)


@pytest.mark.parametrize("part", ["q", "k"])
def test_wrong_head_order_is_seen(part, tmp_path):
    reference, tensors, config = made("LlamaForCausalLM", TINY, tmp_path)
    name = f"model.layers.0.self_attn.{part}_proj.weight"
    heads = tensors[name].unflatten(0, (2, -1, 6))
    order = heads.transpose(0, 1) if part == "q" else heads.flip(0)
    wrong, _ = ours(Llama(), config, tensors | {name: order.flatten(0, 2).contiguous()})
    assert difference(reference, wrong, inputs_of()[0]) > 1e-3


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("LlamaForCausalLM", TINY, tmp_path)
    dynamic = {"rope_type": "dynamic", "factor": 2.0}
    refused(Llama(), config, tensors, "dynamic", rope_parameters=dynamic)
    refused(Llama(), config, tensors, "full_attention", rope_parameters={"full_attention": dynamic})
    refused(Llama(), config, tensors, "factor missing", rope_parameters={"rope_type": "linear"})
    refused(Llama(), config, tensors, "0.5", rope_parameters={"partial_rotary_factor": 0.5})
    refused(Llama(), config, tensors, "sliding_window=4", sliding_window=4)
    refused(Llama(), config, tensors, "mish", hidden_act="mish")
    refused(Llama(), config, tensors, "not a multiple", num_attention_heads=5, head_dim=None)
    refused(Llama(), config, tensors, "model_type='gemma'", model_type="gemma")
    mistral = config | {"model_type": "mistral"}
    refused(Llama(), mistral, tensors, "layer_types", layer_types=["full_attention"] * 2)
    qwen = config | {"model_type": "qwen2", "attention_bias": None, "mlp_bias": None}
    refused(Llama(), qwen, tensors, "chunked", layer_types=["chunked_attention", "full_attention"])
    refused(Llama(), qwen, tensors, "1 layers of 2", layer_types=["full_attention"])
    refused(Llama(), qwen, tensors, "no sliding_window is on", layer_types=["sliding_attention"] * 2)


RELEASED = {
    "Llama-3.1-8B": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008], "hidden_act": "silu", "hidden_size": 4096,
        "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 128256,
    },
    "Qwen2.5-0.5B": {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False, "use_sliding_window": False,
        "vocab_size": 151936,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_configuration_reads(name):
    config = RELEASED[name]
    arch = Llama().read(config, {})
    assert Llama().write(arch, config) == config
    assert {block.layers[0].op.window for block in arch.stage("s0")} == {0}
    shorter = Llama().write(replace(arch, blocks=tuple(b for b in arch.blocks if b.name != "b3")), config)
    assert shorter["num_hidden_layers"] == config["num_hidden_layers"] - 1
    assert set(shorter) - set(config) <= {"layer_types"}
    refused(Llama(), config, {}, "use_mrope=True", use_mrope=True)


def test_absent_keys_have_the_defaults_of_the_class(tmp_path):
    tiny = {k: v for k, v in TINY.items() if k not in ("num_key_value_heads", "max_position_embeddings")}
    for kind, kv, window in (("mistral", 8, 4096), ("qwen3", 32, 0)):
        arch = Llama().read(tiny | {"model_type": kind, "num_attention_heads": 32, "hidden_size": 64}, {})
        assert arch.size["b0.attn.kv"] == kv and arch.block("b0").layers[0].op.window == window
    assert arch.size["b0.attn.v"] == 128


def test_sizes_that_one_number_cannot_say_are_none(tmp_path):
    _, tensors, config = made("LlamaForCausalLM", TINY, tmp_path)
    arch = Llama().read(config, shapes_of(tensors))
    ragged = Llama().write(arch.resized({"b0.ffn.hidden": 7, "b1.attn.kv": 1}), config)
    said = ("intermediate_size", "num_key_value_heads", "num_attention_heads")
    assert [ragged[key] for key in said] == [None] * 3 and ragged["head_dim"] == 6
    narrow = Llama().write(arch.resized({f"b{i}.attn.{a}": 2 for i in (0, 1) for a in ("pairs", "v")}), config)
    assert narrow["head_dim"] is None


def test_a_size_that_another_one_implied_is_written_out(tmp_path):
    _, tensors, config = made("LlamaForCausalLM", TINY, tmp_path)
    implied = {k: v for k, v in config.items() if k != "head_dim"}
    arch = Llama().read(implied, shapes_of(tensors))
    assert Llama().write(arch, implied) == implied
    wider = {"hidden_size": 32, "head_dim": 6}
    assert Llama().write(arch.resized({"s0.width": 32}), implied) == implied | wider
    odd = Llama().write(arch.resized({"s0.width": 20}), implied)
    assert (odd["hidden_size"], odd["head_dim"]) == (20, 6)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_bfloat16_and_float64(name, tmp_path):
    reference, tensors, config = made(name, TINY | {"head_dim": 6}, tmp_path / "a")
    check_dtypes(ours(Llama(), config, tensors)[0], reference, tmp_path / "b")
