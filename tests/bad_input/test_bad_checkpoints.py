"""Checkpoints that are wrong: each command line ends with 4, names file and fact, and leaves nothing behind."""

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.bad_input.conftest import configure, rewrite

NORM = "model.norm.weight"
UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
PRUNE = ("--budget", "params=0.8x")


def put(name, content):
    return lambda m: (m / name).write_bytes(content)


def cut(stop):
    return lambda m: (m / "model.safetensors").write_bytes((m / "model.safetensors").read_bytes()[:stop])


def oversized(m):
    whole = (m / "model.safetensors").read_bytes()
    (m / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + whole[8:])


def tensor(name, value):
    return lambda m: rewrite(m, lambda t: t.update({name: value}))


def emptied(m):
    for file in list(m.iterdir()):
        file.unlink()


FILES = {
    "truncated header": (cut(40), ["model.safetensors is truncated", "the file has 40"]),
    "truncated data": (cut(-40), ["is truncated: tensor 'model.norm.weight'"]),
    "oversized header": (oversized, ["header length reads 1099511627776", "limit of 100000000"]),
    "zero bytes": (put("model.safetensors", b""), ["is empty (0 bytes)"]),
    "git-lfs": (put("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), ["git lfs pull"]),
    "empty folder": (emptied, ["holds no weights", "save_pretrained"]),
    "missing tensor": (
        lambda m: rewrite(m, lambda t: t.pop(NORM)),
        ["1 tensors are missing: model.norm.weight", "--names"],
    ),
    "extra tensor": (tensor("extra.weight", torch.ones(2)), ["belong to nothing: extra.weight"]),
    "shape": (tensor(NORM, torch.ones(25)), [NORM, "has shape [25]; the configuration says [24] (hidden_size: 24"]),
    "integers": (tensor(NORM, torch.ones(24, dtype=torch.int32)), [NORM, "stored as I32", "F64, F32, F16, BF16"]),
    "complex": (tensor(NORM, torch.ones(24, dtype=torch.complex64)), [NORM, "stored as C64"]),
    "8-bit floats": (tensor(UP, torch.ones(40, 24).to(torch.float8_e4m3fn)), [UP, "F8_E4M3", "scales applied"]),
    "config not json": (put("config.json", b'{"a": 1,\n oops}'), ["config.json:2:2", "not valid JSON", "^"]),
    "config empty": (put("config.json", b""), ["config.json:1:1"]),
    "config a list": (put("config.json", b"[1]"), ["config.json is not a JSON object"]),
    "config missing": (lambda m: (m / "config.json").unlink(), ["config.json is missing"]),
}


@pytest.mark.parametrize("case", FILES)
def test_damaged_folders(place, case):
    damage, parts = FILES[case]
    model = place.model()
    damage(model)
    place.fails(4, ["inspect", model], *parts)
    place.fails(4, ["prune", model, *PRUNE], *parts)


CONFIG = {
    "unknown architecture": (dict(model_type="lama"), ["no family reads model_type 'lama'", "Did you mean 'llama'?"]),
    "no architecture": (dict(model_type=...), ["model_type None"]),
    "unknown feature": (dict(foo_feature=True), ["unknown keys: foo_feature"]),
    "unknown activation": (dict(hidden_act="swigloo"), ["'swigloo' is not supported"]),
    "missing key": (dict(vocab_size=...), ["no 'vocab_size'"]),
    "contradicted size": (
        dict(vocab_size=62),
        ["model.embed_tokens.weight in model.safetensors has shape [61, 24]", "vocab_size: 62"],
    ),
    "fewer layers": (dict(num_hidden_layers=2), ["9 tensors belong to nothing: model.layers.2."]),
    "does not divide": (dict(num_attention_heads=5), ["24 is not a multiple of 5"]),
    "word for number": (dict(rms_norm_eps="a"), ["rms_norm_eps is 'a', not a number"]),
    "word for truth": (dict(tie_word_embeddings="false"), ["tie_word_embeddings is 'false', not true or false"]),
    "number for list": (dict(architectures=3), ["architectures is 3, not a list"]),
    "number for object": (dict(rope_parameters=3), ["rope_parameters is 3, not an object"]),
    "zero": (dict(num_hidden_layers=0), ["num_hidden_layers is 0"]),
    "unknown rope": (dict(rope_scaling={"rope_type": "foo"}), ["'foo' is not supported"]),
}


@pytest.mark.parametrize("case", CONFIG)
def test_wrong_configurations(place, case):
    changes, parts = CONFIG[case]
    model = place.model()
    configure(model, **changes)
    place.fails(4, ["inspect", model, "--json"], *parts)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [NORM, UP])
def test_values_that_are_not_finite(place, value, name):
    model = place.model()
    rewrite(model, lambda t: t[name].view(-1).__setitem__(7, value))
    kind = "1 NaN" if value != value else "1 infinite"
    for words in (["prune", model, *PRUNE], ["quantize", model], ["extract", model, *PRUNE]):
        place.fails(4, words, kind, "checkpoint is damaged")


def test_a_damaged_unit_is_not_pruned_away_unseen(place):
    """One NaN makes its unit's score no number, and a ranking of such scores means nothing."""
    model = place.model()
    rewrite(model, lambda t: t[UP].view(-1).__setitem__(0, float("nan")))
    place.fails(4, ["prune", model, "--budget", "params=0.5x"], "b0.ffn.up.weight", "1 NaN")
    rewrite(model, lambda t: t[DOWN].view(-1).__setitem__(0, float("nan")))
    place.fails(4, ["prune", model, "--blocks", 1, "--out", "x"], "b0.ffn.down.weight", "1 NaN")


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_pickles_with_code_are_refused_and_not_run(place):
    model = place.model()
    (model / "model.safetensors").unlink()
    for write in (lambda path: torch.save({"a": Evil()}, path), lambda path: path.write_bytes(pickle.dumps(Evil()))):
        write(model / "pytorch_model.bin")
        place.fails(4, ["inspect", model], "needs more than tensors", "runs no code", "save_file")
    assert not (place.folder / "pwned").exists()


def shards(model, change):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = list(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    table = {name: file for file, held in parts.items() for name in held}
    change(parts, table)
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, model / file, {"format": "pt"})
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda p, t: t.update({NORM: "../b.safetensors"}), ["'../b.safetensors', which points outside its folder"]),
        (lambda p, t: t.update({NORM: "/etc/passwd"}), ["points outside its folder", "do not trust"]),
        (lambda p, t: t.update({NORM: "c.safetensors"}), ["lists the shard c.safetensors, which is missing"]),
        (lambda p, t: p["b.safetensors"].append("lm_head.weight"), ["'lm_head.weight' is in two shards"]),
        (lambda p, t: p["b.safetensors"].remove(NORM), ["which does not hold it"]),
    ],
)
def test_wrong_indexes(place, change, parts):
    model = place.model()
    shards(model, change)
    place.fails(4, ["inspect", model], *parts)


def test_paths_that_do_not_exist(place):
    place.model(name="my-model")
    place.fails(4, ["inspect", "./my-modle"], "./my-modle does not exist", "Did you mean my-model?")
    place.fails(4, ["prune", "my-modle", *PRUNE], "neither a local path nor a model", "Did you mean my-model?")
    place.fails(4, ["inspect", "a/b/c"], "a/b/c does not exist", "hub id")
