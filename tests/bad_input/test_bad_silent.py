"""Mistakes that would otherwise give a wrong model without a word."""

import json

import pytest
import torch
from safetensors.torch import load_file

import archtool
from archtool.errors import InputError
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, Select
from archtool.model.apply import apply
from archtool.model.save import save
from tests.bad_input.conftest import configure, rewrite

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def test_a_tied_head_that_differs_from_its_table(place):
    model = place.model()
    configure(model, tie_word_embeddings=True)
    place.fails(4, ["inspect", model], f"{HEAD} and {EMBED}", "one tensor in this model, but they differ")
    rewrite(model, lambda t: t.update({HEAD: t[EMBED].clone()}))
    assert place.run("inspect", model).code == 0
    rewrite(model, lambda t: t.update({HEAD: t[EMBED].half()}))
    place.fails(4, ["inspect", model], "they differ")


def edited(model, out, *decisions):
    out.mkdir()
    save(apply(archtool.load(str(model)), Edit("t", decisions)), out)
    return load_file(out / "model.safetensors"), archtool.load(str(out))


def test_position_numbers_follow_the_positions(place, tmp_path):
    model = place.model("bert")
    rewrite(model, lambda t: t.update({"embeddings.position_ids": torch.arange(32)[None]}))
    tensors, again = edited(model, tmp_path / "out", Select(Selection("positions", (0, 3, 5, 6))))
    assert again.architecture.size["positions"] == 4
    assert torch.equal(tensors["embeddings.position_ids"], torch.arange(4)[None])


def test_a_mask_token_follows_the_width(place, tmp_path):
    model = place.model("vit")
    token = torch.randn(1, 1, 24)
    rewrite(model, lambda t: t.update({"vit.embeddings.mask_token": token}))
    kept = tuple(range(0, 24, 2))
    tensors, _ = edited(model, tmp_path / "out", Select(Selection("s0.width", kept)))
    assert torch.equal(tensors["vit.embeddings.mask_token"], token[..., kept])


def test_stored_frequencies_follow_their_heads_and_blocks(place, tmp_path):
    model = place.model()
    name = "model.layers.{}.self_attn.rotary_emb.inv_freq"
    rates = torch.tensor([1.0, 0.5, 0.25])
    rewrite(model, lambda t: t.update({name.format(i): rates.clone() for i in range(3)}))
    tensors, _ = edited(model, tmp_path / "a", Select(Selection("b1.attn.pairs", (0, 2))))
    assert [len(tensors[name.format(i)]) for i in range(3)] == [3, 2, 3]
    tensors, again = edited(model, tmp_path / "b", Drop("b0"))
    assert not any("inv_freq" in n for n in tensors) and not again.source.carried
    assert place.run("prune", model, "--blocks", 1, "--out", "run").code == 0
    notes = json.loads((place.folder / "run" / "result.json").read_text())["records"]["notes"]
    assert sum("left out" in note["reason"] for note in notes) == 3


def test_a_carried_tensor_of_another_size_is_left_out(place, tmp_path):
    model = place.model("bert")
    rewrite(model, lambda t: t.update({"embeddings.position_ids": torch.arange(9)[None]}))
    tensors, _ = edited(model, tmp_path / "out", Select(Selection("positions", (0, 1))))
    assert "embeddings.position_ids" not in tensors


@pytest.mark.parametrize("pattern", ["b0.attn.q.weight", "b0.attn.q", "b0.attn", "b0", "b0*", "*.attn"])
def test_what_is_protected_keeps_its_width(place, pattern):
    model = place.model()
    assert place.run("prune", model, "--budget", "params=0.8x", "--protect", pattern, "--out", "run").code == 0
    sizes = archtool.load("run/model").architecture.size
    assert sizes["b0.attn.kv"] == 2 and sizes["b1.ffn.hidden"] < 40


@pytest.mark.parametrize("pattern", ["*.attn", "b?.attn.*", "b0.attn,b1.attn,b2.attn"])
def test_what_is_protected_is_not_quantized(place, pattern):
    model = place.model()
    flags = [word for part in pattern.split(",") for word in ("--protect", part)]
    assert place.run("quantize", model, *flags, "--out", "run").code == 0
    encoded = dict(archtool.load("run/model").plan.entries)
    assert not any(".attn." in name for name in encoded) and "b0.ffn.up.weight" in encoded


def test_a_tied_head_is_protected_under_either_name(place):
    model = place.model()
    configure(model, tie_word_embeddings=True)
    rewrite(model, lambda t: t.pop(HEAD))
    for pattern in ("head", "embed"):
        assert place.run("quantize", model, "--protect", pattern, "--out", pattern).code == 0
        assert "embed.tokens.token.weight" not in dict(archtool.load(f"{pattern}/model").plan.entries)


def test_protected_blocks_are_not_dropped(place):
    model = place.model()
    rewrite(model, lambda t: [t[n].mul_(1e-3) for n in t if "layers.1." in n])
    assert place.run("prune", model, "--blocks", 1, "--out", "a").code == 0
    up = "model.layers.{}.mlp.up_proj.weight"
    before, left = load_file(model / "model.safetensors"), load_file("a/model/model.safetensors")
    assert [torch.equal(left[up.format(i)], before[up.format(j)]) for i, j in ((0, 0), (1, 2))] == [True, True]
    assert place.run("prune", model, "--blocks", 1, "--protect", "b1", "--out", "b").code == 0
    left = load_file("b/model/model.safetensors")
    assert any(torch.equal(left[up.format(i)], before[up.format(1)]) for i in range(2))
    place.fails(2, ["prune", model, "--blocks", 2, "--protect", "b[01]"], "cannot drop 2 of 3 blocks: 1 can go")


def test_a_scheme_that_does_not_fit_says_so(place):
    found = place.run("quantize", place.model(), "--scheme", "w4g64", "--out", "run")
    assert found.code == 0
    found.says("tensors are not stored as w4g64", "24 columns do not fill groups of 64")


def test_saving_checks_what_it_computed(tmp_path, place):
    checkpoint = archtool.load(str(place.model()))
    values = {"b0.ffn.up.weight": torch.full((40, 24), float("inf"))}
    broken = apply(checkpoint, Edit("t", (), ("b0.ffn.up.weight",)), values)
    with pytest.raises(InputError, match="960 infinite"):
        save(broken, tmp_path)
