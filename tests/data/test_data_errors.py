"""Everything a user can get wrong is an error that names the file, the line, and what to do."""

import gzip

import numpy as np
import pytest
from data_files import words_folder, write_idx, write_jsonl, write_lines  # noqa: F401

from archtool.data import (
    Batches,
    DataSpec,
    ImagePreprocess,
    SeriesPreprocess,
    TextPreprocess,
    TokenPreprocess,
    calibration,
    load_data,
    preprocess_from_json,
)
from archtool.errors import InputError, RecipeError, UsageError


def fails(kind, spec, folder=None, *, says=(), hint=(), line=None):
    with pytest.raises(kind) as caught:
        load_data(spec, folder)
    for part in says:
        assert part in caught.value.what
    for part in hint:
        assert part in caught.value.hint
    if line is not None:
        assert caught.value.where.line == line
    return caught.value


def test_missing_file_and_unknown_ending(tmp_path):
    fails(InputError, DataSpec(str(tmp_path / "no.csv")), says=["no.csv", "no such file"])
    fails(InputError, DataSpec(str(write_lines(tmp_path / "a.doc", "x"))), says=[".doc"], hint=[".csv"])
    fails(UsageError, DataSpec("sklearn:iris"), says=["sklearn:iris"], hint=["sklearn:digits"])
    fails(InputError, DataSpec(str(tmp_path / "none")), says=["no such"])


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.jsonl", "e.txt"])
def test_empty_files_have_no_rows(tmp_path, name):
    (tmp_path / name).write_text("")
    fails(InputError, DataSpec(str(tmp_path / name)), says=[name, "no rows"])


def test_header_without_rows_and_empty_arrays(tmp_path):
    fails(InputError, DataSpec(str(write_lines(tmp_path / "h.csv", "text,label"))), says=["no rows"])
    np.savez(tmp_path / "e.npz", x=np.zeros((0, 4, 4)), y=np.zeros(0))
    fails(InputError, DataSpec(str(tmp_path / "e.npz")), says=["no rows"])
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], "string")}), tmp_path / "e.parquet")
    fails(InputError, DataSpec(str(tmp_path / "e.parquet")), says=["no rows"])


def test_wrong_columns_list_those_that_exist(tmp_path):
    path = write_lines(tmp_path / "x.csv", "review,stars", "a,1")
    spec = DataSpec(str(path), "text-classification", (("text", "reviw"),))
    fails(InputError, spec, says=["'reviw'"], hint=["review, stars", "did you mean review?"])
    fails(InputError, DataSpec(str(path), "similarity"), says=["sentence1"], hint=["review, stars"])
    write_lines(path, "foo,bar", "a,1")
    fails(UsageError, DataSpec(str(path)), says=["cannot tell the task"])


def test_label_column_missing(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "text,stars", "a,1")
    fails(InputError, DataSpec(str(path), "text-classification"), words_folder, says=["label"], hint=["stars"])


def test_score_that_is_no_number_names_its_line(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "sentence1,sentence2,score", "a,b,1.0", "c,d,high")
    error = fails(InputError, DataSpec(str(path)), words_folder, says=["x.csv", "line 3", "'high'"], line=3)
    assert error.where.file == path
    write_lines(path, "sentence1,sentence2,score", "a,b,nan")
    fails(InputError, DataSpec(str(path)), words_folder, says=["line 2"], line=2)


def test_ragged_row_bad_quote_and_bad_json_name_their_line(tmp_path):
    path = write_lines(tmp_path / "x.csv", "text,label", "a,1", "b,1,2")
    fails(InputError, DataSpec(str(path)), says=["line 3", "3 cells"], line=3)
    write_lines(path, "text,label", '"a,1', "b,2")
    fails(InputError, DataSpec(str(path)), says=["line 2"], line=2)
    write_lines(path, "text,text", "a,1")
    fails(InputError, DataSpec(str(path)), says=["same name"])
    jsonl = write_lines(tmp_path / "x.jsonl", '{"text": "a"}', "{oops")
    fails(InputError, DataSpec(str(jsonl)), says=["line 2", "not JSON"], line=2)
    write_jsonl(jsonl, [{"text": "a"}, {"txt": "b"}])
    fails(InputError, DataSpec(str(jsonl)), says=["line 2", "'text'"], line=2)
    write_lines(jsonl, "[1]")
    fails(InputError, DataSpec(str(jsonl)), says=["not a JSON object"], line=1)


def test_unreadable_content(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    fails(InputError, DataSpec(str(tmp_path / "x.csv")), says=["x.csv", "cannot be read"])
    for name in ("x.npz", "x.parquet"):
        (tmp_path / name).write_bytes(b"nonsense")
        fails(InputError, DataSpec(str(tmp_path / name)), says=[name])
    fails(InputError, DataSpec(str(tmp_path)), says=["several data files"])
    folder = tmp_path / "f" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"nonsense")
    fails(InputError, DataSpec(str(folder.parent)), says=["a.png", "not a readable image"])


def test_idx_damage(tmp_path):
    images = tmp_path / "a-images-idx3-ubyte.gz"
    write_idx(images, np.zeros((2, 3, 3)))
    fails(InputError, DataSpec(str(images)), says=["no labels file a-labels-idx1-ubyte.gz"])
    write_idx(tmp_path / "a-labels-idx1-ubyte.gz", np.zeros(3))
    fails(InputError, DataSpec(str(images)), says=["2 images"])
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-1]))
    fails(InputError, DataSpec(str(images)), says=["17 bytes", "needs 18"])
    images.write_bytes(images.read_bytes()[:-9])
    fails(InputError, DataSpec(str(images)), says=["gzip"])
    images.write_bytes(gzip.compress(b"hello"))
    fails(InputError, DataSpec(str(images)), says=["not an idx file"])


def test_npz_with_other_arrays_or_normalised_pixels(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, pictures=np.zeros((2, 4, 4)), y=np.zeros(2))
    fails(InputError, DataSpec(str(path)), says=["no array x or images"], hint=["pictures, y"])
    np.savez(path, x=np.full((2, 4, 4), -1.5), y=np.zeros(2))
    fails(InputError, DataSpec(str(path)), says=["from -1.5"])
    np.savez(path, x=np.zeros((2, 4, 4)), y=np.zeros(3))
    fails(InputError, DataSpec(str(path)), says=["2 images and 3 labels"])


def test_labels_that_are_no_class(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "text,label", "a,pos", "b,ngg")
    spec = DataSpec(str(path), classes=("neg", "pos"))
    fails(InputError, spec, words_folder, says=["line 3", "'ngg'", "did you mean neg?"], line=3)
    write_lines(path, "text,label", "a,-1")
    fails(InputError, DataSpec(str(path)), words_folder, says=["line 2", "label -1"], line=2)


def test_splits_that_do_not_exist(tmp_path):
    write_lines(tmp_path / "test.txt", "ab")
    write_lines(tmp_path / "valid.txt", "ab")
    fails(UsageError, DataSpec(str(tmp_path), split="train"), says=["no split 'train'"], hint=["test, val"])
    fails(UsageError, DataSpec(str(tmp_path)), says=["several splits"], hint=["test, val"])
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(InputError, DataSpec(str(empty)), says=["no data in this folder"])
    fails(
        InputError,
        DataSpec("sklearn:digits", split="val", fractions=(1, 0, 0)),
        says=["no rows in split val"],
    )


def test_task_and_source_that_do_not_fit(tmp_path):
    text = write_lines(tmp_path / "a.txt", "hello")
    fails(InputError, DataSpec(str(text), "image-classification"), says=["running text"])
    fails(InputError, DataSpec("sklearn:digits", "lm"), says=["from images"])
    fails(InputError, DataSpec("sklearn:digits", "forecast"), says=["from images"])
    fails(InputError, DataSpec(str(text), "similarity"), says=["running text"])


def test_tokenizers_that_are_not_there(tmp_path):
    path = write_lines(tmp_path / "x.csv", "text,label", "a,1")
    fails(InputError, DataSpec(str(path)), says=["no tokenizer"])
    fails(InputError, DataSpec(str(path)), tmp_path, says=["no tokenizer that transformers loads"])
    fails(InputError, DataSpec(str(path)), tmp_path / "none", says=["no such folder"])
    text = write_lines(tmp_path / "a.txt", "ab")
    spec = DataSpec(str(text), preprocess=TokenPreprocess("chars", vocabulary="a"))
    fails(InputError, spec, says=["'\\n'", "line 1"])
    (tmp_path / "t.bin").write_bytes(b"\1\0\0\0\0\0\0\0\5\0\0\0ab")
    spec = DataSpec(str(text), preprocess=TokenPreprocess(str(tmp_path / "t.bin")))
    fails(InputError, spec, says=["piece 0"])


def test_series_errors(tmp_path):
    path = write_lines(tmp_path / "s.csv", "date,a,b", "1,1,x", "2,2,3")
    fails(InputError, DataSpec(str(path), "forecast"), says=["line 2", "'x'"], line=2)
    write_lines(path, "date,a,b", "1,1,5", "2,2,5", "3,3,5")
    stated = SeriesPreprocess(1, 1, borders=(1, 2, 9))
    fails(InputError, DataSpec(str(path), "forecast", preprocess=stated), says=["borders"])
    stated = SeriesPreprocess(1, 1, borders=(3, 3, 3))
    fails(InputError, DataSpec(str(path), "forecast", preprocess=stated), says=["constant", "b"])
    stated = SeriesPreprocess(5, 1, borders=(3, 3, 3), standardise=False)
    fails(InputError, DataSpec(str(path), "forecast", preprocess=stated), says=["no rows", "6 rows"])


def test_settings_that_make_no_sense(tmp_path):
    text = str(write_lines(tmp_path / "a.txt", "abc"))
    for length, stride in ((4, 5), (4, 0), (0, None)):
        with pytest.raises(UsageError, match="windows"):
            load_data(DataSpec(text, preprocess=TokenPreprocess("bytes", length, stride)))
    for values in ({"limit": 0}, {"split": "dev"}, {"task": "lmm"}, {"fractions": (0.5, 0.1, 0.1)}):
        with pytest.raises(UsageError):
            DataSpec(text, **values)
    with pytest.raises(UsageError, match="takes ImagePreprocess, not TextPreprocess"):
        load_data(DataSpec("sklearn:digits", preprocess=TextPreprocess()))
    for stated in (ImagePreprocess(resample="bilnear"), ImagePreprocess(channels=2)):
        with pytest.raises(UsageError):
            load_data(DataSpec("sklearn:digits", preprocess=stated))
    data = load_data(DataSpec("sklearn:digits"))
    with pytest.raises(UsageError):
        Batches(data, 0)
    with pytest.raises(UsageError):
        Batches(data, 1, order="random")
    with pytest.raises(UsageError):
        calibration(data, 0)


def test_recipe_keys_are_checked():
    with pytest.raises(RecipeError) as caught:
        DataSpec.from_json({"source": "x", "colums": {}})
    assert "did you mean columns?" in caught.value.hint
    with pytest.raises(RecipeError) as caught:
        preprocess_from_json("lm", {"lenght": 3})
    assert "did you mean length?" in caught.value.hint
    with pytest.raises(RecipeError, match=r"needs data\.task"):
        DataSpec.from_json({"source": "x", "preprocess": {"length": 3}})
