"""StarCoder2 against transformers: parity, configurations there and back, a wrong order of heads."""

import pytest
import torch

from archtool.families.starcoder2 import Starcoder2
from tests.families.decoder_checks import (
    VOCAB,
    check_config,
    check_parity,
    check_unknown_key,
    difference,
    inputs_of,
    made,
)
from tests.families.parity import ours

TINY = {
    "vocab_size": VOCAB, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
CASES = [
    ("Starcoder2ForCausalLM", {}),
    ("Starcoder2ForCausalLM", {"num_key_value_heads": 4, "tie_word_embeddings": False, "sliding_window": 4}),
    ("Starcoder2ForCausalLM", {"num_attention_heads": 6, "num_key_value_heads": 1, "use_bias": False}),
]


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Starcoder2(), reference, config, tensors)
    check_config(Starcoder2(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Starcoder2(), config, tensors)


def test_a_wrong_order_of_heads_is_seen(tmp_path):
    reference, tensors, config = made("Starcoder2ForCausalLM", TINY, tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"
    wrong = {**tensors, name: tensors[name].unflatten(0, (2, 2, 6)).transpose(0, 1).flatten(0, 2).contiguous()}
    model, *_ = ours(Starcoder2(), config, wrong)
    with torch.inference_mode():
        assert difference(reference, model, inputs_of()[0]) > 1e-3
