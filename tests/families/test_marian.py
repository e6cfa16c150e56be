"""Marian against transformers: shared and separate tables, computed and stored positions, scales, biases, refusals."""

import pytest
import torch

from archtool.families.marian import Marian
from tests.families.decoder_checks import refused
from tests.families.parity import ours
from tests.families.seq2seq_checks import (
    VOCAB,
    check_config,
    check_generation,
    check_parity,
    check_unknown_key,
    difference,
    inputs_of,
    made,
)

TINY = {
    "vocab_size": VOCAB, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 3, "max_position_embeddings": 32,
    "pad_token_id": 1, "decoder_start_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "init_std": 0.3,
}  # fmt: skip
APART = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 29}


def biased(model):
    model.final_logits_bias.data.normal_()


CASES = [
    ("MarianMTModel", {}, biased),
    ("MarianMTModel", {"activation_function": "swish", "scale_embedding": True} | APART, biased),
    ("MarianMTModel", {"tie_word_embeddings": False, "activation_function": "relu"} | APART, biased),
    ("MarianMTModel", {"tie_word_embeddings": False, "d_model": 18, "encoder_attention_heads": 6}, biased),
    ("MarianModel", {"scale_embedding": True}, None),
    ("MarianModel", APART, None),
]


@pytest.mark.parametrize(("name", "extra", "change"), CASES)
def test_outputs_and_configuration(name, extra, change, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a", change)
    words = extra.get("decoder_vocab_size", VOCAB)
    model, arch = check_parity(Marian(), reference, config, tensors, words)
    assert (name == "MarianModel") == ("positions" in arch.size)
    check_config(Marian(), arch, config, tensors, model, reference, tmp_path / "b", words)
    check_unknown_key(Marian(), config, tensors)


def test_generation(tmp_path):
    equal = {"decoder_layers": 2, "tie_word_embeddings": False, "init_std": 1.0}
    reference, tensors, config = made("MarianMTModel", TINY | equal, tmp_path)
    check_generation(ours(Marian(), config, tensors)[0], reference, start=1)


def test_stored_positions_win_over_computed_ones(tmp_path):
    reference, tensors, config = made("MarianMTModel", TINY, tmp_path)
    names = [f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")]
    stored = tensors | {name: torch.randn(32, 24) for name in names}
    for name in names:
        reference.get_parameter(name).data.copy_(stored[name])
    _, arch = check_parity(Marian(), reference, config, stored)
    assert arch.size["positions"] == 32 and Marian().write(arch, config) == config


@pytest.mark.parametrize("name", ["encoder.layers.1.self_attn.q_proj", "decoder.layers.0.encoder_attn.v_proj"])
def test_wrong_head_order_is_seen(name, tmp_path):
    reference, tensors, config = made("MarianMTModel", TINY, tmp_path)
    wrong = {key: tensors[key].roll(6, 0) for key in (f"model.{name}.weight", f"model.{name}.bias")}
    assert difference(reference, ours(Marian(), config, tensors | wrong)[0], inputs_of()[0]) > 1e-3


def test_a_released_configuration_reads():
    config = {
        "_num_labels": 3, "activation_dropout": 0.0, "activation_function": "swish", "add_bias_logits": False,
        "add_final_layer_norm": False, "architectures": ["MarianMTModel"], "attention_dropout": 0.0,
        "bad_words_ids": [[58100]], "bos_token_id": 0, "classif_dropout": 0.0, "classifier_dropout": 0.0,
        "d_model": 512, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0,
        "decoder_layers": 6, "decoder_start_token_id": 58100, "dropout": 0.1, "encoder_attention_heads": 8,
        "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6, "eos_token_id": 0,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "init_std": 0.02, "is_encoder_decoder": True,
        "max_length": 512, "max_position_embeddings": 512, "model_type": "marian", "normalize_before": False,
        "normalize_embedding": False, "num_beams": 6, "num_hidden_layers": 6, "pad_token_id": 58100,
        "scale_embedding": True, "static_position_embeddings": True, "vocab_size": 58101,
    }  # fmt: skip
    arch = Marian().read(config, {})
    assert Marian().write(arch, config) == config
    changes = {"e0.ffn.hidden": "encoder_ffn_dim", "d0.cross.kv": "decoder_attention_heads", "s0.width": None}
    for axis, key in changes.items():
        said = Marian().write(arch.resized({axis: 7}), config)
        assert (said["scale_embedding"] if key is None else said[key]) is None


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("MarianMTModel", TINY, tmp_path)
    refused(Marian(), config, tensors, "normalize_before=True", normalize_before=True)
    refused(Marian(), config, tensors, "static_position_embeddings=False", static_position_embeddings=False)
    refused(Marian(), config, tensors, "not a multiple", encoder_attention_heads=5)
