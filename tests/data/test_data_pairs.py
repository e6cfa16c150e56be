"""Pairs of texts: what the decoder is fed and what it must predict, with each kind of tokenizer."""

import json

import pytest
from data_files import first_batch, tokenizer_folder, write_lines

from archtool.data import IGNORE, DataSpec, PairPreprocess, load_data
from archtool.errors import InputError, UsageError


@pytest.fixture
def folder(tmp_path):
    tokenizer_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"decoder_start_token_id": 7}))
    return tmp_path


@pytest.fixture
def rows(tmp_path):
    return write_lines(tmp_path / "rows.tsv", "source\ttarget", "a b c\tgood film", "d\tbad")


def test_a_folder_tokenizer_shifts_the_target(folder, rows):
    data = load_data(DataSpec(str(rows)), folder)
    assert data.task == "translation" and data.spec.preprocess.start == 7
    batch = first_batch(data)
    assert batch.inputs["input_ids"].tolist() == [[2, 4, 5, 6, 3], [2, 7, 3, 0, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch.targets["next_ids"].tolist() == [[2, 14, 16, 3], [2, 15, 3, IGNORE]]
    assert batch.inputs["decoder_input_ids"].tolist() == [[7, 2, 14, 16], [7, 2, 15, 0]]
    assert data.tokenizer.decode([2, 14, 16, 3]) == "good film"


def test_prefix_start_and_length_are_settings(folder, rows):
    stated = PairPreprocess(prefix="j ", start=1, max_length=4)
    data = load_data(DataSpec(str(rows), task="translation", preprocess=stated), folder)
    batch = first_batch(data)
    assert batch.inputs["input_ids"].tolist() == [[2, 13, 4, 3], [2, 13, 7, 3]]
    assert batch.inputs["decoder_input_ids"][:, 0].tolist() == [1, 1]
    assert data.notes == ("1 of 4 texts cut at 4 tokens",)
    with pytest.raises(UsageError, match="max_length is 1"):
        load_data(DataSpec(str(rows), task="translation", preprocess=PairPreprocess(max_length=1)), folder)


def test_vocabulary_files_spell_or_split(tmp_path, rows):
    (tmp_path / "source_vocabulary.txt").write_text("<blank>\n<s>\n</s>\na\nb\nc\n", encoding="utf-8")
    (tmp_path / "target_vocabulary.txt").write_text("<blank>\n<s>\n</s>\ngood\nfilm\n", encoding="utf-8")
    batch = first_batch(load_data(DataSpec(str(rows)), tmp_path))
    assert batch.inputs["input_ids"].tolist() == [[3, 4, 5], [6, 0, 0]]
    assert batch.targets["next_ids"].tolist() == [[3, 4, 2], [5, 2, IGNORE]]
    assert batch.inputs["decoder_input_ids"].tolist() == [[1, 3, 4], [1, 5, 0]]
    data = load_data(DataSpec(str(rows)), tmp_path)
    assert data.tokenizer.decode([1, 3, 4, 5, 2]) == "good film <unk>" and data.tokenizer.vocabulary_size == 7


def test_without_a_tokenizer_or_a_target_the_message_says_so(tmp_path, rows, folder):
    (folder / "one.tsv").write_text("source\tother\na\tb\n")
    with pytest.raises(InputError, match="no column 'target'"):
        load_data(DataSpec(str(folder / "one.tsv"), task="translation"), folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(InputError, match="none of its files"):
        load_data(DataSpec(str(rows)), empty)
