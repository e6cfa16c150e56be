"""Same seed, same bytes; another seed, others."""

import hashlib
from dataclasses import replace

import pytest
from data_files import first_batch, words_folder, write_lines  # noqa: F401

from archtool.data import IGNORE, Batches, DataSpec, TextPreprocess, TokenPreprocess, calibration, load_data
from archtool.data.encode_tokens import cut


def content(batches):
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in (*batch.inputs.values(), *batch.targets.values(), batch.positions):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def digits():
    return load_data(DataSpec("sklearn:digits", split="test"))


def test_shuffled_batches_depend_on_seed_and_epoch_only(digits):
    passes = Batches(digits, 32, order="shuffled", seed=3)
    again = load_data(DataSpec("sklearn:digits", split="test"))
    assert content(passes) == content(passes) == content(Batches(again, 32, order="shuffled", seed=3))
    assert content(passes) != content(replace(passes, seed=4))
    assert content(passes) != content(replace(passes, epoch=1))
    assert sorted(passes.positions()) == list(range(len(digits)))


def test_split_limit_and_digest_depend_on_the_seed():
    spec = DataSpec("sklearn:digits", split="val", limit=20)
    first, again, other = (load_data(replace(spec, seed=seed)) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()
    assert len(first) == 20 and list(first.rows) == sorted(set(first.rows))
    assert first.digest() != load_data(replace(spec, limit=19)).digest()


def test_digest_sees_preprocessing_and_values(tmp_path):
    spec = DataSpec("sklearn:digits", limit=5)
    data = load_data(spec)
    stated = replace(data.spec.preprocess, rescale=1.0)
    assert load_data(replace(spec, preprocess=stated)).digest() != data.digest()
    assert load_data(data.spec).digest() == data.digest()
    path = write_lines(tmp_path / "t.txt", "abc")
    one = load_data(DataSpec(str(path), preprocess=TokenPreprocess("bytes"))).digest()
    write_lines(path, "abd")
    assert load_data(DataSpec(str(path), preprocess=TokenPreprocess("bytes"))).digest() != one


def test_sizes_of_batches(digits):
    assert len(digits) == 180
    assert [len(batch.positions) for batch in Batches(digits, 100)] == [100, 80]
    assert [len(batch.positions) for batch in Batches(digits, 100, drop_last=True)] == [100]
    assert len(Batches(digits, 90)) == 2


def test_length_order_pads_little_and_loses_nothing(tmp_path, words_folder):  # noqa: F811
    texts = ["a", "a b c d e", "b", "a b c d", "c"]
    path = write_lines(tmp_path / "x.csv", "text,label", *(f"{text},0" for text in texts))
    batches = list(Batches(load_data(DataSpec(str(path)), words_folder), 2, order="length"))
    assert [batch.positions.tolist() for batch in batches] == [[1, 3], [0, 2], [4]]
    assert [batch.inputs["input_ids"].shape[1] for batch in batches] == [7, 3, 3]
    assert batches[0].inputs["attention_mask"].tolist() == [[1] * 7, [1] * 6 + [0]]


def test_padding_side_and_fixed_length_and_what_was_cut(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "text,label", "a b c d,0", "a,1")
    stated = TextPreprocess(max_length=4, padding="max_length", padding_side="left")
    data = load_data(DataSpec(str(path), preprocess=stated), words_folder)
    assert first_batch(data).inputs["input_ids"].tolist() == [[2, 4, 5, 3], [0, 2, 4, 3]]
    assert data.notes == ("1 of 2 texts cut at 4 tokens",)


def test_calibration_takes_distinct_examples(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", *(f'{{"text": "{word}"}}' for word in ["ab"] * 8 + ["cd", "ef"]))
    data = load_data(DataSpec(str(path), "lm", preprocess=TokenPreprocess("bytes")))
    subset = calibration(data, 3, seed=1)
    assert sorted(first_batch(subset).inputs["input_ids"][:, 0].tolist()) == [97, 99, 101]
    more = calibration(data, 4)
    assert len(more) == 3 and "3 distinct" in more.notes[-1]
    assert calibration(data, 3, 1).digest() == subset.digest()
    assert len({calibration(data, 2, seed).digest() for seed in range(8)}) > 1


@pytest.mark.parametrize(("count", "length", "stride"), [(10, 4, 4), (10, 4, 2), (9, 4, 1), (3, 8, 8), (5, 4, 3)])
def test_windows_score_each_token_once_with_the_right_context(count, length, stride):
    stream = list(range(100, 100 + count))
    scored = []
    for window in cut(stream, length, stride):
        begin = stream.index(window.ids[0])
        assert window.ids == stream[begin : begin + len(window.ids)] and len(window.ids) <= length
        for place, target in enumerate(window.next_ids):
            assert target in (IGNORE, stream[begin + place + 1])
        scored += [target for target in window.next_ids if target != IGNORE]
    assert scored == stream[1:]


def test_windows_of_nothing():
    assert cut([], 4, 4) == [] and cut([1], 4, 4) == []


def test_spec_survives_json(tmp_path):
    import json

    for spec in (
        load_data(DataSpec("sklearn:digits", split="val", limit=3)).spec,
        DataSpec("x.csv", "lm", (("text", "t"),), preprocess=TokenPreprocess("chars", 8, 4, vocabulary="ab")),
        DataSpec("x.csv", "forecast", classes=("a", "b")),
    ):
        assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert hash(spec) == hash(replace(spec))


def test_import_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, archtool.data, archtool.evaluate; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
