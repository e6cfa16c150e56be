"""``trim-vocabulary`` by the command line: models and tokenizers of every kind, reloaded without archtool."""

import json
import subprocess
import sys

import pytest

from archtool.cli import main
from archtool.export.model import export_model
from archtool.model.preset import built
from tests.transforms.tiny_tokenizers import KINDS, TEXTS, saved, scored_file

CORPUS = "the cat sat on the mat\na dog and the cat\nünïcode and cats\n"
RELOAD = """
import json, sys
sys.modules["archtool"] = None
import torch
from transformers import AutoModel, AutoTokenizer

for before, after, text in json.loads(sys.argv[1]):
    old, new = (AutoTokenizer.from_pretrained(place) for place in (before, after))
    ids, now = old(text)["input_ids"], new(text)["input_ids"]
    assert old.convert_ids_to_tokens(ids) == new.convert_ids_to_tokens(now), (before, ids, now)
    assert old.decode(ids) == new.decode(now) and old.all_special_tokens == new.all_special_tokens
    for name in ("pad", "eos", "bos", "unk", "cls", "sep", "mask"):
        assert getattr(old, f"{name}_token", None) == getattr(new, f"{name}_token", None), name
    outputs = []
    for place, given in ((before, ids), (after, now)):
        model = AutoModel.from_pretrained(place).eval()
        feed = {"input_ids": torch.tensor([given])}
        if model.config.is_encoder_decoder:
            feed["decoder_input_ids"] = feed["input_ids"]
        with torch.inference_mode():
            outputs.append(model(**feed).last_hidden_state)
    assert torch.equal(*outputs), before
    assert len(new) < len(old)
print("same")
"""


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


@pytest.fixture
def trim(tmp_path, corpus, capsys):
    """Run the command; its JSON and the folder of the model."""

    def run(folder, *words, code=0, name="out"):
        argv = ["trim-vocabulary", str(folder), "--out", str(tmp_path / name), "--json", "-q", *map(str, words)]
        argv += [] if "--corpus" in words else ["--corpus", str(corpus)]
        assert main.run(argv) == code
        said = capsys.readouterr()
        return (json.loads(said.out), tmp_path / name / "model") if not code else said.err

    return run


def test_every_kind_loads_in_a_fresh_process_and_computes_the_same(tmp_path, trim):
    jobs = []
    for kind in KINDS:
        folder = saved(tmp_path / kind, kind, rows_more=7)
        found, model = trim(folder, "--min-count", 1, name=f"{kind}-out")
        assert found["texts_identical"] == found["token_coverage"] == 1.0
        assert found["survivors_max_abs_diff"] <= 1e-6
        assert json.loads((model / "config.json").read_text())["vocab_size"] == found["vocabulary"]
        assert found["parameters"] < found["records"]["parent"]["costs"]["parameters"]
        jobs.append((str(folder), str(model), "the cat and a dog"))
    done = subprocess.run(
        [sys.executable, "-I", "-c", RELOAD, json.dumps(jobs)], capture_output=True, text=True,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == "same", done.stderr


def test_a_scored_file_travels_under_its_name(tmp_path, trim):
    folder = saved(tmp_path / "m", "llama_bpe", rows_more=50)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    scored_file(folder / "tok400.bin")
    found, model = trim(folder, "--keep", 280)
    assert found["vocabulary"] == 280 and found["survivors_max_abs_diff"] <= 1e-6
    assert sorted(p.name for p in model.glob("tok*")) == ["tokenizer.bin"]
    assert main.run(["trim-vocabulary", str(model), "--corpus", str(tmp_path / "corpus.txt"), "--keep", "270",
                     "--out", str(tmp_path / "again"), "-q"]) == 0  # fmt: skip


def test_all_plain_files_follow(tmp_path, trim):
    from tokenizers import Tokenizer

    folder = saved(tmp_path / "m", "byte_bpe")
    Tokenizer.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
    (folder / "added_tokens.json").write_text('{"<|endoftext|>": 0}')
    (folder / "generation_config.json").write_text('{"eos_token_id": 0, "suppress_tokens": [0, 300, 339]}')
    (folder / "spiece.model").write_bytes(b"whole")
    found, model = trim(folder, "--keep", 290)
    vocab = json.loads((model / "vocab.json").read_text())
    assert vocab == json.loads((model / "tokenizer.json").read_text())["model"]["vocab"] and len(vocab) == 290
    lines = (model / "merges.txt").read_text().splitlines()
    assert len(lines) == 1 + len(json.loads((model / "tokenizer.json").read_text())["model"]["merges"])
    assert json.loads((model / "generation_config.json").read_text())["suppress_tokens"][0] == 0
    assert not (model / "spiece.model").exists()
    assert any(n["what"] == "spiece.model" for n in found["records"]["notes"])


def test_a_vocabulary_file_alone_is_enough(tmp_path, trim):
    from tokenizers import Tokenizer

    folder = saved(tmp_path / "m", "word_piece")
    vocab = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in sorted(vocab, key=vocab.get)), encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    found, model = trim(folder, "--keep", 40)
    assert len((model / "vocab.txt").read_text().splitlines()) == found["vocabulary"] == 40
    assert len(json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]) == 40


def test_limits_and_budgets(tmp_path, trim):
    folder = saved(tmp_path / "m", "word_piece")
    half, _ = trim(folder, "--coverage", 0.5, name="half")
    most, _ = trim(folder, "--coverage", 0.9, name="most")
    assert half["vocabulary"] < most["vocabulary"] and half["token_coverage"] >= 0.5 and most["token_coverage"] >= 0.9
    found, _ = trim(folder, "--budget", "params=0.9x,size=29kB", name="budget")
    whole = found["records"]["parent"]["costs"]
    assert found["parameters"] <= 0.9 * whole["parameters"] and found["size_bytes"] <= 29_000
    assert all(check["met"] for check in found["records"]["budgets"])
    report = json.loads((tmp_path / "budget" / "metrics.json").read_text())
    assert report["child"]["metrics"]["token_coverage"]["value"] == found["token_coverage"]
    first = report["layers"][0]
    assert (first["structure"], first["kept"]) == ("vocabulary", found["vocabulary"])
    more, _ = trim(folder, "--keep", int(found["vocabulary"]) + 1, name="more")
    assert more["parameters"] > 0.9 * whole["parameters"] or more["size_bytes"] > 29_000
    kept, model = trim(folder, "--keep", 40, "--keep-text", "weather, nice", name="kept")
    vocab = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    assert "," in vocab and kept["vocabulary"] == 40


def test_the_parent_is_judged_with_its_own_tokens(tmp_path, trim, capsys):
    folder = saved(tmp_path / "m", "byte_bpe")
    text = tmp_path / "other.txt"
    text.write_text("another sentence with other words, unseen weather\n" * 3)
    assert main.run(["eval", str(folder), "--task", "lm", "--data", str(text), "--json", "-q"]) == 0
    alone = json.loads(capsys.readouterr().out)
    found, _ = trim(folder, "--keep", 280, "--task", "lm", "--data", text)
    assert found["records"]["parent"]["metrics"]["loss"]["value"] == alone["loss"]
    assert found["token_coverage"] == 1.0 or found["corpus_tokens_ratio"] > 1.0
    assert found["records"]["child"]["metrics"]["tokens"]["value"] > alone["tokens"]  # words fall into pieces


def test_padding_that_a_classifier_looks_for_moves(tmp_path, trim):
    folder = saved(
        tmp_path / "m", "byte_bpe", architectures=["GPT2ForSequenceClassification"], pad_token_id=320, num_labels=2
    )
    found, model = trim(folder, "--keep", 270)
    config = json.loads((model / "config.json").read_text())
    assert config["pad_token_id"] < 270 and found["survivors_max_abs_diff"] <= 1e-6


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "nothing says how many"),
        (("--keep", 3), 2, "fewer than the 5 tokens that cannot be dropped"),
        (("--keep", 5000), 2, "the tokenizer has"),
        (("--keep", 40, "--corpus", "missing.txt"), 4, "no such file"),
        (("--keep", 40, "--text-columns", "nothing", "--corpus", "TABLE"), 4, "no column 'nothing'"),
        (("--keep", 40, "--corpus", "EMPTY"), 4, "no text"),
        (("--budget", "latency=1ms"), 2, "latency"),
        (("--budget", "params=0.01x"), 6, "cannot be dropped"),
        (("--coverage", 1.5), 2, "coverage"),
    ],
)
def test_bad_input(tmp_path, trim, words, code, said):
    (tmp_path / "empty.jsonl").write_text('{"text": "  "}\n')
    (tmp_path / "table.csv").write_text("text,label\nthe cat,1\n")
    places = {"TABLE": tmp_path / "table.csv", "EMPTY": tmp_path / "empty.jsonl"}
    folder = saved(tmp_path / "m", "word_piece")
    assert said in trim(folder, *(places.get(word, word) for word in words), code=code)


def test_models_without_a_tokenizer_or_with_another_are_refused(tmp_path, trim):
    folder = saved(tmp_path / "m", "word_piece")
    (folder / "tokenizer.json").rename(tmp_path / "kept.json")
    (folder / "tokenizer_config.json").unlink()
    assert "no tokenizer" in trim(folder, "--keep", 40, code=4)
    small = saved(tmp_path / "small", "word_piece", rows_more=-5)
    assert "has none" in trim(small, "--keep", 40, code=4, name="small-out")


def test_tokenizers_of_another_library_are_refused_by_name(tmp_path, trim):
    folder = saved(tmp_path / "m", "unigram", rows_more=400)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert "ByT5Tokenizer is not of the tokenizers library" in trim(folder, "--keep", 300, code=4)


def test_two_vocabularies_are_refused_by_name(tmp_path, trim):
    sizes = dict(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32, share_encoder_decoder_embeddings=False,
        vocab_size=40, decoder_vocab_size=50, tie_word_embeddings=False, pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "marian"
    export_model(built("marian", sizes, seed=0), folder)
    assert "two vocabularies (vocab and decoder_vocab)" in trim(folder, "--keep", 30, code=4)


def test_recovery_after_trimming_is_refused(tmp_path, corpus, capsys):
    folder = saved(tmp_path / "m", "byte_bpe")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {folder}\ndata: {{path: {corpus}, task: lm}}\nsteps:\n"
        f"  - trim-vocabulary: {{corpus: corpus.txt, keep: 280}}\n  - recover: {{steps: 1}}\n"
    )
    assert main.run(["run", str(recipe), "--out", str(tmp_path / "out"), "-q"]) == 2
    assert "reads other tokens" in capsys.readouterr().err


def test_another_corpus_is_another_run(tmp_path, corpus, trim):
    folder = saved(tmp_path / "m", "word_piece")
    trim(folder, "--keep", 40)
    assert trim(folder, "--keep", 40)[0]["run"]["cached"]
    corpus.write_text(TEXTS[5])
    assert "corpus" in trim(folder, "--keep", 40, code=2)
