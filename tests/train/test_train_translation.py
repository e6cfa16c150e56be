"""Teacher forcing in the one loop: a small encoder-decoder learns to spell, and says so by the command line."""

import itertools
import json
import random

import pytest
import torch

from archtool.cli import main
from archtool.config.preset import build_model
from archtool.data import DataSpec, load_data
from archtool.errors import InputError
from archtool.evaluate import evaluate
from archtool.export.model import export_model
from archtool.train.run import train
from archtool.train.settings import TrainSettings

LETTERS = "abcdef"
MARIAN = {
    "family": "marian",
    "config": {
        "vocab_size": 10, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "activation_function": "relu", "max_position_embeddings": 16, "pad_token_id": 0, "decoder_start_token_id": 1,
        "scale_embedding": True, "initializer_range": 0.1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model with its vocabularies, and words that are spelt backwards in capitals."""
    root = tmp_path_factory.mktemp("spelling")
    torch.set_num_threads(1)
    export_model(build_model(MARIAN, 0), root / "model")
    for side, letters in (("source", LETTERS), ("target", LETTERS.upper())):
        (root / f"model/{side}_vocabulary.txt").write_text("\n".join(["<blank>", "<s>", "</s>", *letters]) + "\n")
    words = ["".join(w) for n in (2, 3, 4) for w in itertools.product(LETTERS, repeat=n)]
    random.Random(0).shuffle(words)
    for name, chosen in (("train", words[:400]), ("test", words[400:440])):
        rows = "\n".join(f"{word}\t{word.upper()[::-1]}" for word in chosen)
        (root / f"{name}.tsv").write_text(f"source\ttarget\n{rows}\n")
    return root


def pairs(folder, name="test", **changes):
    return load_data(DataSpec(str(folder / f"{name}.tsv"), task="translation", **changes), folder / "model")


def test_it_learns_to_spell(folder):
    checkpoint = build_model(MARIAN, 0)
    before = evaluate(checkpoint.module(), "translation", pairs(folder))
    settings = TrainSettings(steps=300, lr=1e-2, batch_size=32)
    trained, _ = train(checkpoint, pairs(folder, "train"), settings, threads=1)
    after = evaluate(trained.module(), "translation", pairs(folder))
    assert before["exact_match"] == 0 and before["cer"] > 0.5 and before["loss"] > 1.5
    assert after["exact_match"] > 0.8 and after["cer"] < 0.1 and after["loss"] < 0.3


def test_the_command_line_trains_evaluates_and_generates(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    argv = [
        "train",
        folder / "model",
        "--data",
        folder / "train.tsv",
        "--steps",
        3,
        "--out",
        "run",
        "--json",
        "--quiet",
    ]
    assert main.run([*map(str, argv), "--task", "translation", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"loss", "exact_match", "cer", "train_loss"} <= found.keys()
    assert main.run(["generate", "run/model", "abc", "ff", "--steps", "5", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in written] == ["abc", "ff"] and all(len(row["output"]) <= 5 for row in written)
    assert main.run(["generate", "run/model", ""]) == 4
    assert "no token" in capsys.readouterr().err


def test_data_without_pairs_is_refused(folder, tmp_path):
    data = pairs(folder, columns=(("source", "source"), ("target", "source")))
    assert data.tokenizer.decode(data.targets["next_ids"].take(data.rows[:1])[0]) == "<unk>" * 4
    (tmp_path / "text.txt").write_text("abc")
    with pytest.raises(InputError, match="translation cannot be read from running text"):
        load_data(DataSpec(str(tmp_path / "text.txt"), task="translation"), folder / "model")
