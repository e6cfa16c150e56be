"""``eval --draft`` and ``eval --task retrieval --index`` by the command line and by recipes."""

import json
import re
import shutil

import pytest

from archtool.cli import main
from archtool.config.load import read_recipe
from archtool.export.model import export_model
from archtool.model.preset import built
from archtool.run.fingerprint import fingerprint, input_hashes
from tests.transforms.tiny_tokenizers import TEXTS, saved

SPECULATED = ("acceptance_rate", "greedy_match", "tokens_per_call", "sampled_tokens_per_call", "greedy_tokens_per_call")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; its exit code, its JSON and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main.run([*map(str, words), "--json", "-q"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {}, " ".join(said.err.split())

    return run


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = [f"{a},{b},{score}" for a, b, score in zip(TEXTS, TEXTS[1:], (5, 1, 4, 5, 2, 4), strict=False)]
    path.write_text("\n".join(["sentence1,sentence2,score", *(row.replace(", ", " ") for row in rows)]) + "\n")
    return path


def other(folder, tmp_path, name="draft", seed=2, **changes):
    """A model of the same kind with other weights and the same tokenizer."""
    from archtool.model.load import load

    config = dict(load(folder).source.config)
    family = config.pop("model_type")
    export_model(built(family, config | changes, seed), tmp_path / name)
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / name)
    return tmp_path / name


def test_a_draft_is_judged(tmp_path, call, text):
    folder = saved(tmp_path / "m", "byte_bpe")
    draft = other(folder, tmp_path, n_layer=1)
    words = ("eval", folder, "--task", "lm", "--data", text, "--threads", 1)
    code, alone, _ = call(*words)
    assert code == 0 and "acceptance_rate" not in alone
    code, found, said = call(*words, "--draft", draft, "--draft-tokens", 2, "--require", "acceptance_rate>=0.01")
    assert code == 0, said
    assert found["loss"] == alone["loss"] and set(SPECULATED) <= set(found)
    rate = found["acceptance_rate"]
    assert 0 < rate < 1 and found["tokens_per_call"] == pytest.approx(1 + rate + rate**2)
    entry = found["records"]["child"]["metrics"]["acceptance_rate"]
    assert entry["value"] == rate and 0 < entry["stderr"] < rate and entry["higher_is_better"]
    assert call(*words, "--draft", draft, "--require", "acceptance_rate>=1.5")[0] == 7
    _, own, _ = call(*words, "--draft", folder)
    assert own["acceptance_rate"] == pytest.approx(1, abs=1e-6) and own["greedy_tokens_per_call"] > 4


def test_the_draft_is_part_of_the_run(tmp_path, call, text):
    folder = saved(tmp_path / "m", "byte_bpe")
    draft = other(folder, tmp_path)
    (tmp_path / "r.yaml").write_text(
        f"model: m\ntask: lm\ndata: {{path: {text.name}}}\nsteps: [eval: {{draft: draft, draft_tokens: 3}}]\n"
    )
    before = input_hashes(read_recipe(tmp_path / "r.yaml"))
    assert "steps.0.eval.draft" in before
    code, found, said = call("run", "r.yaml")
    assert code == 0 and "acceptance_rate" in found, said
    shutil.rmtree(draft)
    other(folder, tmp_path, seed=5)
    recipe = read_recipe(tmp_path / "r.yaml")
    after = input_hashes(recipe)
    assert after["steps.0.eval.draft"] != before["steps.0.eval.draft"]
    assert fingerprint(recipe, after) != fingerprint(recipe, before)


def test_drafts_that_do_not_fit(tmp_path, call, text, pairs):
    folder = saved(tmp_path / "m", "byte_bpe")
    words = ("eval", folder, "--task", "lm", "--data", text)
    more = saved(tmp_path / "more", "byte_bpe", rows_more=5)
    code, _, said = call(*words, "--draft", more)
    sizes = re.findall(r"has (\d+) tokens in its vocabulary, the draft (\d+)", said)
    assert code == 4 and sizes and int(sizes[0][1]) == int(sizes[0][0]) + 5, said
    draft = other(folder, tmp_path)
    tokenizer = json.loads((draft / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer))
    code, _, said = call(*words, "--draft", draft)
    assert code == 4 and f"differ in 2 of {len(vocab)} tokens" in said, said
    assert call(*words, "--draft", tmp_path / "nowhere")[0] == 4
    encoder = saved(tmp_path / "e", "word_piece")
    code, _, said = call("eval", encoder, "--task", "similarity", "--data", pairs, "--draft", folder)
    assert code == 2 and "--draft is for the task lm" in said
    code, _, said = call(*words, "--index", folder)
    assert code == 2 and "--index is for the task retrieval" in said
    code, _, said = call("eval", folder, "--task", "speculation", "--data", text)
    assert code == 2 and "needs a draft" in said


def test_retrieval_in_the_large_models_index(tmp_path, call, pairs):
    large = saved(tmp_path / "m", "word_piece")
    small = other(large, tmp_path, name="small", num_hidden_layers=1)
    words = ("--task", "retrieval", "--data", pairs, "--threads", 1)
    code, own, said = call("eval", small, *words)
    assert code == 0, said
    assert (own["queries"], own["documents"]) == (4, 6) and own["recall@10"] == 1
    code, same, _ = call("eval", small, *words, "--index", small, "--require", "recall@10>=1")
    assert code == 0 and same["mrr"] == own["mrr"]
    code, crossed, _ = call("eval", small, *words, "--index", large)
    assert code == 0 and 0 < crossed["mrr"] <= 1 and crossed["mrr"] != own["mrr"]
    assert call("eval", small, *words, "--least-score", 5)[1]["queries"] == 2
    code, _, said = call("eval", small, *words, "--least-score", 6)
    assert code == 4 and "no pair has a score of 6 or more" in said
    wide = other(large, tmp_path, name="wide", hidden_size=24)
    code, _, said = call("eval", small, *words, "--index", wide)
    assert code == 4 and "differ in shape" in said


def test_retrieval_in_a_recipe_judges_parent_and_child(tmp_path, call, pairs):
    saved(tmp_path / "m", "word_piece")
    (tmp_path / "r.yaml").write_text(
        f"model: m\ntask: retrieval\ndata: {{path: {pairs.name}}}\n"
        "steps: [prune: {budget: 'params=0.9x'}, eval: {index: m}]\n"
    )
    code, found, said = call("run", "r.yaml")
    assert code == 0, said
    for model in ("parent", "child"):
        assert 0 <= found["records"][model]["metrics"]["mrr"]["value"] <= 1
