"""RoBERTa and XLM-RoBERTa against transformers: positions after the padding id, heads, names."""

import pytest
import torch

from archtool.families.roberta import Roberta
from tests.families.encoder_checks import (
    check_config,
    check_loads,
    check_unknown_key,
    check_wrong_order_differs,
    compared,
    saved,
)
from tests.families.parity import ours

transformers = pytest.importorskip("transformers")
TINY = {
    "vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 14, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
}  # fmt: skip
CASES = [
    ("RobertaModel", {}, {}),
    ("RobertaModel", {"num_attention_heads": 2, "pad_token_id": 3}, {"add_pooling_layer": False}),
    ("XLMRobertaModel", {"hidden_act": "relu"}, {}),
    ("RobertaForSequenceClassification", {"num_labels": 3}, {}),
    ("XLMRobertaForSequenceClassification", {"num_attention_heads": 6, "type_vocab_size": 2}, {}),
    ("RobertaForTokenClassification", {"num_labels": 4}, {}),
    ("RobertaForMaskedLM", {"hidden_act": "relu"}, {}),
    ("RobertaForMaskedLM", {"tie_word_embeddings": False}, {}),
]


def _config_class(name):
    return transformers.XLMRobertaConfig if name.startswith("XLM") else transformers.RobertaConfig


def _inputs(pad=1):
    ids = torch.randint(4, 31, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[0, 6:], ids[2, :4] = pad, pad
    return [{"input_ids": ids}, {"input_ids": ids, "attention_mask": ids.ne(pad).long()}]


def _case(name, extra, options, folder):
    reference = getattr(transformers, name)(_config_class(name)(**(TINY | extra)), **options)
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra", "options"), CASES)
def test_outputs_equal_transformers(name, extra, options, tmp_path):
    reference, tensors, config = _case(name, extra, options, tmp_path / "a")
    model, arch = ours(Roberta(), config, tensors)
    inputs = _inputs(config["pad_token_id"])
    for given in inputs:
        compared(reference, model, given)
    check_config(Roberta(), config, tensors, arch, _config_class(name))
    check_unknown_key(Roberta(), config, tensors)
    if not options:
        kind = type(reference)
        check_loads(Roberta(), arch, tensors, model, kind, _config_class(name), inputs[1], tmp_path / "b")


def test_positions_depend_on_the_padding_id(tmp_path):
    _, tensors, config = _case("RobertaModel", {}, {}, tmp_path)
    right, arch = ours(Roberta(), config, tensors)
    other, _ = ours(Roberta(), {**config, "pad_token_id": 2}, tensors)
    given = _inputs()[0]
    with torch.inference_mode():
        assert float((right(**given)["hidden"] - other(**given)["hidden"]).abs().max()) > 1e-3
    assert arch.fact["max_positions"] == 12


def test_names_of_the_decoder_stored_twice(tmp_path):
    reference, tensors, config = _case("RobertaForMaskedLM", {}, {}, tmp_path)
    old = {
        **tensors,
        "lm_head.decoder.weight": tensors["roberta.embeddings.word_embeddings.weight"].clone(),
        "lm_head.decoder.bias": tensors["lm_head.bias"].clone(),
        "roberta.embeddings.position_ids": torch.arange(14)[None],
    }
    model, _ = ours(Roberta(), config, old)
    compared(reference, model, _inputs()[1])


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("RobertaModel", {}, {}, tmp_path)
    name = "encoder.layer.1.attention.self.value.weight"
    check_wrong_order_differs(Roberta(), config, tensors, name, 8, _inputs()[0])
