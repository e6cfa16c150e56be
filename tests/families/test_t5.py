"""T5 against transformers: relu and gated, tied and untied heads, shared biases, masks, encoders alone, refusals."""

import pytest
import torch

from archtool.errors import InputError
from archtool.families.t5 import T5
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, RefusedEdit, Select, Unshare
from archtool.model.apply import apply
from archtool.model.masked import masked_parent
from archtool.transforms.prune.depth import drop_weakest
from archtool.transforms.units import joined, unit_axes
from tests.families.decoder_checks import refused, shapes_of
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
from tests.model.tiny import inputs, tiny

TINY = {
    "vocab_size": VOCAB, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "decoder_start_token_id": 0,
    "initializer_factor": 0.3,
}  # fmt: skip
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3, "num_heads": 3}


def untied(model):
    model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape) * 0.2)


CASES = [
    ("T5ForConditionalGeneration", {}, None),
    ("T5ForConditionalGeneration", GATED, untied),
    ("T5ForConditionalGeneration", GATED | {"feed_forward_proj": "gated-silu"}, None),
    (
        "T5ForConditionalGeneration",
        {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
        None,
    ),
    ("T5Model", {"layer_norm_epsilon": 1e-3, "feed_forward_proj": "gelu"}, None),
    ("T5EncoderModel", {"d_kv": 6, "relative_attention_num_buckets": 12}, None),
    ("MT5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu"}, untied),
]


@pytest.mark.parametrize(("name", "extra", "change"), CASES)
def test_outputs_and_configuration(name, extra, change, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a", change)
    model, arch = check_parity(T5(), reference, config, tensors)
    check_config(T5(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(T5(), config, tensors)


@pytest.mark.parametrize("extra", [{"tie_word_embeddings": False}, GATED | {"num_decoder_layers": 1}])
def test_generation(extra, tmp_path):
    reference, tensors, config = made("T5ForConditionalGeneration", TINY | extra, tmp_path, untied)
    check_generation(ours(T5(), config, tensors)[0], reference, start=0)


@pytest.mark.parametrize(
    "name", ["encoder.block.1.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.v"]
)
def test_wrong_head_order_is_seen(name, tmp_path):
    reference, tensors, config = made("T5ForConditionalGeneration", TINY, tmp_path)
    wrong = tensors | {f"{name}.weight": tensors[f"{name}.weight"].roll(5, 0)}
    assert difference(reference, ours(T5(), config, wrong)[0], inputs_of()[0]) > 1e-3


def test_a_released_file_holds_its_table_four_times_and_an_unused_bias(tmp_path):
    reference, tensors, config = made("T5ForConditionalGeneration", TINY, tmp_path)
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    released = tensors | {name: tensors["shared.weight"].clone() for name in copies} | {unused: torch.ones(8, 4)}
    _, arch = check_parity(T5(), reference, config, released)
    assert arch.fact["head_copy"] and T5().carried_axes(unused, arch) == ("", "d0.cross.kv")


def test_an_old_gated_configuration_reads():
    config = {
        "architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64, "d_model": 512,
        "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5",
        "n_positions": 512, "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "output_past": True,
        "pad_token_id": 0, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
        "tie_word_embeddings": False, "transformers_version": "4.23.1", "use_cache": True, "vocab_size": 32128,
    }  # fmt: skip
    arch = T5().read(config, {})
    head = arch.block("head").layers[0].op
    assert (head.tie, head.scale) == ("", 1.0) and T5().write(arch, config) == config
    for changed, key in (({"d3.ffn.hidden": 7}, "d_ff"), ({"e0.attn.kv": 2}, "num_heads"), ({"d0.cross.v": 9}, "d_kv")):
        assert T5().write(arch.resized(changed), config)[key] is None


def test_heads_under_the_shared_bias_are_cut_together_or_unshared():
    checkpoint = tiny("t5")
    heads = Select(Selection("e1.attn.kv", (0, 2)))
    with pytest.raises(RefusedEdit, match=r"e0\.attn\.bias is shared by e0\.attn and e1\.attn"):
        apply(checkpoint, Edit("test", (heads,)))
    with pytest.raises(RefusedEdit, match=r"e0\.attn owns e0\.attn\.bias, which e1\.attn shares"):
        apply(checkpoint, Edit("test", (Drop("e0", "attn"),)))
    free = Edit("test", (Unshare("e1", "attn"), heads))
    small = apply(checkpoint, free)
    assert small.architecture.size["e1.attn.kv"] == 2 and small.architecture.size["e0.attn.kv"] == 4
    feed = inputs(checkpoint)
    parent = apply(checkpoint, Edit("test", free.decisions[:1])).module()
    masked = masked_parent(parent, Edit("test", free.decisions[1:]))(**feed)["logits"]
    assert (small.module()(**feed)["logits"] - masked).abs().max() <= 1e-5 * masked.abs().max()


def test_generic_pruning_cuts_tied_heads_alike_and_leaves_the_owner_of_the_bias():
    arch = tiny("t5").architecture
    axes = unit_axes(arch, ["heads"])
    found = joined(arch, {axis: [float(i + n) for i in range(4)] for n, axis in enumerate(axes)})
    assert found["e0.attn.kv"] == found["e2.attn.kv"] == [1.0, 2.0, 3.0, 4.0]
    assert found["d0.attn.kv"] == found["d1.attn.kv"] != found["d0.cross.kv"]
    assert not {"e0.attn.kv", "e1.attn.kv"} & set(unit_axes(arch, ["heads"], ["e2.attn.q.weight"]))
    lightest = drop_weakest(arch, {"e0": 0.0, "d0": 1.0, "d2": 2.0, "e1": 3.0}, 2)
    assert [d.block for d in lightest.decisions] == ["d2", "e1"]


def test_unsupported_values_are_named(tmp_path):
    _, tensors, config = made("T5ForConditionalGeneration", TINY, tmp_path)
    refused(T5(), config, tensors, "add_cross_attention=True", add_cross_attention=True)
    refused(T5(), config, tensors, "mish", feed_forward_proj="mish", dense_act_fn="mish")
    with pytest.raises(InputError, match="unknown keys: sharing"):
        T5().read(config | {"sharing": 1}, shapes_of(tensors))
