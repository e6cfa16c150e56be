"""GPT-2 against transformers: transposed fused weights, prefixes, old buffers, scales, heads, refusals."""

import pytest
import torch

from archtool.families.gpt2 import Gpt2
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
    "vocab_size": VOCAB, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 32, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
CASES = [
    ("GPT2LMHeadModel", {}),
    ("GPT2LMHeadModel", {"n_head": 3, "n_inner": 40, "scale_attn_by_inverse_layer_idx": True}),
    ("GPT2LMHeadModel", {"scale_attn_weights": False, "activation_function": "relu", "tie_word_embeddings": False}),
    ("GPT2LMHeadModel", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "n_head": 1,
                         "reorder_and_upcast_attn": True}),
    ("GPT2Model", {"n_inner": 17}),
    ("GPT2ForSequenceClassification", {"num_labels": 3, "pad_token_id": 5}),
    ("GPT2ForTokenClassification", {"num_labels": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Gpt2(), reference, config, tensors, pad=5)
    check_config(Gpt2(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Gpt2(), config, tensors)


def test_a_released_file_has_no_prefix_and_carries_masks(tmp_path):
    reference, tensors, config = made("GPT2LMHeadModel", TINY, tmp_path)
    released = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    for i in range(3):
        released[f"h.{i}.attn.bias"] = torch.ones(32, 32).tril()[None, None]
        released[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    _, arch, _ = check_parity(Gpt2(), reference, config, released)
    assert arch.fact["prefix"] == "" and Gpt2().write(arch, config) == config
    assert not Gpt2().carried("h.0.attn.c_attn.bias")


def test_a_body_without_its_prefix_is_a_body(tmp_path):
    reference, tensors, config = made("GPT2Model", TINY, tmp_path)
    assert all(not name.startswith("transformer.") for name in tensors)
    check_parity(Gpt2(), reference, config, tensors)


def test_a_released_configuration_reads():
    config = {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
        "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257,
    }  # fmt: skip
    arch = Gpt2().read(config, {})
    assert arch.size["b11.ffn.hidden"] == 3072 and arch.block("head").layers[0].op.tie
    assert Gpt2().write(arch, config) == config
    assert Gpt2().write(arch.resized({"s0.width": 704}), config)["n_head"] is None


@pytest.mark.parametrize("part", [0, 1, 2])
def test_wrong_head_order_is_seen(part, tmp_path):
    reference, tensors, config = made("GPT2LMHeadModel", TINY, tmp_path)
    name = "transformer.h.0.attn.c_attn.weight"
    wrong = tensors[name].clone()
    columns = slice(24 * part, 24 * (part + 1))
    wrong[:, columns] = wrong[:, columns].roll(6, 1)
    model, _ = ours(Gpt2(), config, tensors | {name: wrong})
    assert difference(reference, model, inputs_of()[0]) > 1e-3


def test_sizes_that_one_number_cannot_say_are_none(tmp_path):
    _, tensors, config = made("GPT2LMHeadModel", TINY, tmp_path)
    arch = Gpt2().read(config, shapes_of(tensors))
    assert Gpt2().write(arch.resized({"b0.ffn.hidden": 7}), config)["n_inner"] is None
    assert Gpt2().write(arch.resized({"b0.attn.kv": 2}), config)["n_head"] is None
    narrower = {f"b{i}.attn.qk": 4 for i in range(3)}
    assert Gpt2().write(arch.resized(narrower), config)["n_head"] is None


def test_a_hidden_size_that_the_width_implied_is_written_out():
    config = TINY | {"model_type": "gpt2", "n_inner": None}
    arch = Gpt2().read(config, {})
    assert Gpt2().write(arch, config) == config
    assert Gpt2().write(arch.resized({"s0.width": 20}), config)["n_inner"] == 96


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("GPT2LMHeadModel", TINY, tmp_path)
    refused(Gpt2(), config, tensors, "add_cross_attention=True", add_cross_attention=True)
    refused(Gpt2(), config, tensors, "mish", activation_function="mish")
    refused(Gpt2(), config, tensors, "not a multiple", n_head=5)


@pytest.mark.parametrize(("act", "outputs"), [("relu", ("hidden", "logits")), ("gelu_new", ("logits",))])
def test_bfloat16_and_float64(act, outputs, tmp_path):
    """Transformers rounds every step of its gelu_new to bfloat16; the larger hidden state shows it."""
    reference, tensors, config = made("GPT2LMHeadModel", TINY | {"activation_function": act}, tmp_path / "a")
    check_dtypes(ours(Gpt2(), config, tensors)[0], reference, tmp_path / "b", outputs=outputs)
