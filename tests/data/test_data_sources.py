"""Every source gives the examples that were written into it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data_files import first_batch, shared, words_folder, write_idx, write_jsonl, write_lines  # noqa: F401
from PIL import Image

from archtool.data import (
    DataSpec,
    ImagePreprocess,
    SeriesPreprocess,
    TokenPreprocess,
    default_preprocess,
    load_data,
    override,
)
from archtool.data.sources.locate import split_of
from archtool.errors import InputError

IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = np.array([0, 1, 2, 1, 0])
RAW = ImagePreprocess(rescale=1.0)


def pixels(data):
    return first_batch(data).inputs["pixel_values"].numpy()


def test_idx_pair_from_images_file_and_from_folder(tmp_path):
    for split, keep in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", IMAGES[keep])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", LABELS[keep])
    file = load_data(DataSpec(str(tmp_path / "t10k-images-idx3-ubyte.gz"), preprocess=RAW))
    folder = load_data(DataSpec(str(tmp_path), split="test", preprocess=RAW))
    assert file.task == "image-classification"
    np.testing.assert_array_equal(pixels(file)[:, 0], IMAGES[3:])
    np.testing.assert_array_equal(first_batch(folder).targets["labels"], LABELS[3:])
    assert folder.digest() == file.digest()


def test_folder_without_val_takes_it_from_train_disjointly(tmp_path):
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte", IMAGES)
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte", LABELS)
    fractions = (0.6, 0.4, 0.0)
    parts = [load_data(DataSpec(str(tmp_path), split=split, fractions=fractions)).rows for split in ("train", "val")]
    assert [len(part) for part in parts] == [3, 2]
    assert sorted(np.concatenate(parts)) == [0, 1, 2, 3, 4]
    whole = load_data(DataSpec(str(tmp_path), split="train", fractions=(1, 0, 0)))
    assert len(whole) == 5


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_npz(tmp_path, names):
    np.savez(tmp_path / "d.npz", **{names[0]: IMAGES, names[1]: LABELS})
    data = load_data(DataSpec(str(tmp_path / "d.npz"), preprocess=RAW))
    np.testing.assert_array_equal(pixels(data)[:, 0], IMAGES)
    np.testing.assert_array_equal(first_batch(data).targets["labels"], LABELS)


def test_npz_floats_are_brought_to_255_and_columns_are_mapped(tmp_path):
    np.savez(tmp_path / "d.npz", a=IMAGES / 255, b=LABELS)
    spec = DataSpec(str(tmp_path / "d.npz"), columns=(("image", "a"), ("label", "b")), preprocess=RAW)
    np.testing.assert_allclose(pixels(load_data(spec))[:, 0], IMAGES, atol=1e-4)


def test_folder_of_images_per_class(tmp_path):
    for name, image in zip(("cat", "dog", "cat"), IMAGES, strict=False):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name / f"{image[0, 0]}.png")
    data = load_data(DataSpec(str(tmp_path), preprocess=RAW))
    assert data.class_names == ("cat", "dog")
    assert first_batch(data).targets["labels"].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(pixels(data)[:, 0], IMAGES[[0, 2, 1]])


def test_image_folder_with_splits_shares_class_ids(tmp_path):
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "dog")):
        (tmp_path / split / name).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / split / name / "a.png")
    data = load_data(DataSpec(str(tmp_path), split="test"))
    assert first_batch(data).targets["labels"].tolist() == [1]


def test_digits_are_real_images_and_splits_partition_them():
    parts = [load_data(DataSpec("sklearn:digits", split=split)) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1438, 179, 180]
    assert len(np.unique(np.concatenate([part.rows for part in parts]))) == 1797
    batch = first_batch(parts[2])
    assert batch.inputs["pixel_values"].shape == (180, 1, 8, 8)
    assert float(batch.inputs["pixel_values"].max()) == 1.0
    assert set(batch.targets["labels"].tolist()) == set(range(10))


def test_headerless_csv_of_two_texts_and_a_number_is_stsb(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", '"a, ""b""",c,5.0', "c,d e,0.5")
    data = load_data(DataSpec(str(path)), words_folder)
    assert data.task == "similarity" and len(data) == 3
    assert data.pairs.rows_P2.tolist() == [[0, 1], [1, 2]]
    assert data.pairs.scores_P.tolist() == [5.0, 0.5]
    ids = first_batch(data).inputs["input_ids"].tolist()
    assert ids[1] == [2, 6, 3, *[0] * (len(ids[1]) - 3)]


def test_tsv_keeps_quotes_and_csv_reads_lines_inside_quotes(tmp_path):
    from archtool.data.sources.delimited import read_delimited

    tsv = write_lines(tmp_path / "x.tsv", "sentence\tlabel", 'he said "a\t1')
    assert read_delimited(tsv, DataSpec(str(tsv))).columns["sentence"] == ['he said "a']
    csv = write_lines(tmp_path / "x.csv", "text,label", '"a', 'b",0', "c,1")
    table = read_delimited(csv, DataSpec(str(csv)))
    assert table.columns["text"] == ["a\nb", "c"]
    assert list(table.lines) == [2, 4]


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "parquet"])
def test_classification_tables(tmp_path, words_folder, ending):  # noqa: F811
    path = tmp_path / f"x.{ending}"
    rows = [{"sentence": "good film", "label": "pos"}, {"sentence": "bad film", "label": "neg"}]
    if ending == "tsv":
        write_lines(path, "sentence\tlabel", *(f"{row['sentence']}\t{row['label']}" for row in rows))
    elif ending == "jsonl":
        write_jsonl(path, rows)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    data = load_data(DataSpec(str(path)), words_folder)
    batch = first_batch(data)
    assert data.task == "text-classification" and data.class_names == ("neg", "pos")
    assert batch.targets["labels"].tolist() == [1, 0]
    assert batch.inputs["input_ids"].tolist() == [[2, 14, 16, 3], [2, 15, 16, 3]]
    assert batch.inputs["attention_mask"].tolist() == [[1] * 4] * 2


def test_columns_are_mapped_also_by_position(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "7,a b,0", "8,c d,1")
    spec = DataSpec(str(path), "text-classification", (("text", "1"), ("label", "2")))
    batch = first_batch(load_data(spec, words_folder))
    assert batch.inputs["input_ids"].tolist() == [[2, 4, 5, 3], [2, 6, 7, 3]]
    assert batch.targets["labels"].tolist() == [0, 1]


def test_parquet_shards_and_encoded_images(tmp_path):
    from io import BytesIO

    import pyarrow
    import pyarrow.parquet

    for shard in range(2):
        out = BytesIO()
        Image.fromarray(IMAGES[shard]).save(out, "png")
        rows = [{"image": {"bytes": out.getvalue(), "path": None}, "label": shard}]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{shard}.parquet")
    data = load_data(DataSpec(str(tmp_path / "1.parquet"), preprocess=RAW))
    np.testing.assert_array_equal(pixels(data)[0, 0], IMAGES[1])
    assert first_batch(data).targets["labels"].tolist() == [1]


def test_shards_of_a_split_are_joined(tmp_path, words_folder):  # noqa: F811
    for shard in range(2):
        write_lines(tmp_path / f"train-{shard}.csv", "text,label", f"a b,{shard}")
    write_lines(tmp_path / "valid.csv", "text,label", "c d,1")
    data = load_data(DataSpec(str(tmp_path), split="train"), words_folder)
    assert first_batch(data).targets["labels"].tolist() == [0, 1]


def test_saved_dataset_of_the_datasets_library(tmp_path, words_folder):  # noqa: F811
    datasets = pytest.importorskip("datasets")
    rows = {"text": ["a", "b"], "label": [1, 0]}
    part = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": part, "validation": part.select([1])}).save_to_disk(tmp_path / "d")
    data = load_data(DataSpec(str(tmp_path / "d"), split="val"), words_folder)
    assert first_batch(data).inputs["input_ids"].tolist() == [[2, 5, 3]]


def test_hub_name_may_be_a_local_folder(tmp_path, words_folder, monkeypatch):  # noqa: F811
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "d").mkdir()
    write_jsonl(tmp_path / "d" / "train.jsonl", [{"text": "a", "label": 1}])
    data = load_data(DataSpec(f"hub:{tmp_path / 'd'}", split="train"), words_folder)
    assert len(data) == 1


def test_series_windows_follow_the_ett_convention(tmp_path):
    values = np.stack([np.arange(20.0), np.arange(20.0) ** 2], 1)
    lines = [f"2020-01-{day + 1:02d},{a},{b}" for day, (a, b) in enumerate(values)]
    path = write_lines(tmp_path / "s.csv", "date,a,b", *lines)
    stated = SeriesPreprocess(length=3, horizon=2, borders=(10, 14, 20))
    data = load_data(DataSpec(str(path), split="val", preprocess=stated))
    mean, std = values[:10].mean(0), values[:10].std(0)
    batch = first_batch(data)
    assert data.task == "forecast" and len(data) == 3  # futures 10..11, 11..12, 12..13
    expected = ((values - mean) / std).astype(np.float32)
    np.testing.assert_array_equal(batch.inputs["past_values"][0], expected[7:10])
    np.testing.assert_array_equal(batch.targets["future"][-1], expected[12:14])
    chosen = load_data(DataSpec(str(path), "forecast", (("value1", "b"),), "train", preprocess=stated))
    assert first_batch(chosen).inputs["past_values"].shape == (6, 3, 1)
    whole = load_data(DataSpec(str(path), split="val", preprocess=replace(stated, drop_last=2)))
    assert len(whole) == 2 and whole.digest() != data.digest()


def test_dates_become_numbers_for_models_that_read_them(tmp_path):
    dates = ["2020-01-01 00:00:00", "2020-01-05 12:00:00", "2020-12-31 23:00:00"]
    path = write_lines(tmp_path / "s.csv", "date,a", *(f"{date},{i}" for i, date in enumerate(dates)))
    stated = SeriesPreprocess(2, 1, borders=(3, 3, 3), standardise=False, time_features=True)
    found = first_batch(load_data(DataSpec(str(path), split="train", preprocess=stated))).inputs["past_time_features"]
    wednesday, sunday = (0, 2 / 6, 0, 0), (12 / 23, 1, 4 / 30, 4 / 365)
    np.testing.assert_allclose(found[0], np.array([wednesday, sunday]) - 0.5, atol=1e-6)
    write_lines(tmp_path / "s.csv", "date,a", "2020-01-01,0", "then,1", "2020-01-03,2")
    with pytest.raises(InputError, match="line 3: date 'then' is not an ISO date"):
        load_data(DataSpec(str(path), split="train", preprocess=stated))


def test_etth1_windows():
    path = shared("etth1", "ETTh1.csv")
    counts = [len(load_data(DataSpec(str(path), split=split))) for split in ("train", "val", "test")]
    assert counts == [8640 - 336 - 96 + 1, 2880 - 96 + 1, 2880 - 96 + 1]


def test_raw_text_is_cut_in_order(tmp_path):
    path = write_lines(tmp_path / "t.txt", "abcdefghi")
    stated = TokenPreprocess("chars", length=4)
    train, test = (
        load_data(DataSpec(str(path), split=split, fractions=(0.8, 0, 0.2), preprocess=stated))
        for split in ("train", "test")
    )
    assert train.spec.preprocess.vocabulary == "\nabcdefghi"
    assert train.tokenizer.decode(first_batch(train).inputs["input_ids"][0].tolist()) == "abcd"
    assert first_batch(test).targets["next_ids"].tolist() == [[0]]


def test_documents_of_a_separator_and_of_a_table_are_apart(tmp_path):
    stated = TokenPreprocess("bytes", length=8, separator="<END>")
    text = load_data(DataSpec(str(write_lines(tmp_path / "t.txt", "ab<END>", "cd<END>")), preprocess=stated))
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "ab"}, {"text": "cd"}])
    table = load_data(DataSpec(str(path), "lm", preprocess=stated))
    for data in (text, table):
        batch = first_batch(data)
        assert batch.inputs["input_ids"].tolist() == [[97], [99]]
        assert batch.targets["next_ids"].tolist() == [[98], [100]]


def test_sentence_pairs_with_labels_are_classification(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "sentence1,sentence2,label", "a,b,1")
    data = load_data(DataSpec(str(path)), words_folder)
    assert data.task == "text-classification"
    assert first_batch(data).inputs["input_ids"].tolist() == [[2, 4, 3, 5, 3]]
    scored = load_data(DataSpec(str(path), "similarity"), words_folder)
    assert scored.pairs.scores_P.tolist() == [1.0]


def test_headers_are_found_or_stated(tmp_path):
    from archtool.data.sources.delimited import read_delimited

    path = write_lines(tmp_path / "x.csv", "fine words,pos", "more,neg")
    assert len(read_delimited(path, DataSpec(str(path)))) == 1
    assert len(read_delimited(path, DataSpec(str(path), header="no"))) == 2
    assert len(read_delimited(path, DataSpec(str(path), columns=(("text", "0"), ("label", "1"))))) == 2
    write_lines(path, "1,2", "3,4")
    assert list(read_delimited(path, DataSpec(str(path), header="yes")).columns) == ["1", "2"]


def test_default_preprocessing_may_be_overridden():
    stated = override(default_preprocess("image-classification"), size=[16, 16], channels=3)
    data = load_data(DataSpec("sklearn:digits", limit=2, preprocess=stated))
    assert first_batch(data).inputs["pixel_values"].shape == (2, 3, 16, 16)
    assert default_preprocess("lm") == TokenPreprocess()


def test_split_words():
    names = {
        "stsb-en-dev": "val",
        "t10k-images-idx3-ubyte": "test",
        "train-00000-of-2": "train",
        "latest": "",
    }
    assert {name: split_of(name) for name in names} == names


def test_unlabelled_data_needs_no_label_column(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "x.csv", "text", "a b")
    data = load_data(DataSpec(str(path), "text-classification", labelled=False), words_folder)
    assert not data.targets and torch.is_tensor(first_batch(data).inputs["input_ids"])
