"""DistilBERT against transformers: stored positions of both kinds, heads, names."""

import pytest
import torch

from archtool.families.distilbert import DistilBert
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
    "vocab_size": 31, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 14,
}  # fmt: skip
CASES = [
    ("DistilBertModel", {}),
    ("DistilBertModel", {"sinusoidal_pos_embds": True, "n_heads": 6, "activation": "relu"}),
    ("DistilBertForSequenceClassification", {"num_labels": 3, "n_heads": 1}),
    ("DistilBertForTokenClassification", {}),
    ("DistilBertForMaskedLM", {"n_layers": 1}),
    ("DistilBertForMaskedLM", {"tie_word_embeddings": False, "activation": "relu"}),
]


def _inputs():
    ids = torch.randint(0, 31, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 9, dtype=torch.int64)
    mask[0, 6:], mask[2, :4] = 0, 0
    return [{"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}]


def _case(name, extra, folder):
    reference = getattr(transformers, name)(transformers.DistilBertConfig(**(TINY | extra)))
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_equal_transformers(name, extra, tmp_path):
    reference, tensors, config = _case(name, extra, tmp_path / "a")
    family, config_class = DistilBert(), transformers.DistilBertConfig
    model, arch = ours(family, config, tensors)
    for given in _inputs():
        compared(reference, model, given)
    check_config(family, config, tensors, arch, config_class)
    check_unknown_key(family, config, tensors)
    check_loads(family, arch, tensors, model, type(reference), config_class, _inputs()[1], tmp_path / "b")


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("DistilBertModel", {}, tmp_path)
    name = "transformer.layer.0.attention.k_lin.weight"
    check_wrong_order_differs(DistilBert(), config, tensors, name, 8, _inputs()[0])
