"""Every way in which a checkpoint can be wrong is refused with the file and the fact."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from archtool.checkpoint.store import open_store
from archtool.errors import InputError

TWO = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "I8", "shape": [4], "data_offsets": [8, 12]},
}


def raw_file(head: bytes, data: bytes = bytes(12), length: int | None = None) -> bytes:
    return (len(head) if length is None else length).to_bytes(8, "little") + head + data


def changed(name: str, **fields: object) -> bytes:
    table = {key: dict(value) for key, value in TWO.items()}
    table[name].update(fields)
    return raw_file(json.dumps(table).encode())


WHOLE = raw_file(json.dumps(TWO).encode())
DAMAGED = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"1234567", "truncated"),
    "header longer than file": (raw_file(b"{}", b"", 400), "truncated: its header needs 408 bytes"),
    "huge header": (raw_file(b"{}", b"", 2**40), "not a safetensors file"),
    "not json": (raw_file(b"{nope"), "not valid JSON"),
    "not utf-8": (raw_file(b'{"\xff": 1}'), "not valid JSON"),
    "deep json": (raw_file(b"[" * 100_000), "not valid JSON"),
    "not an object": (raw_file(b"[1]"), "not a JSON object"),
    "duplicate tensor": (raw_file(b'{"a": 1, "a": 2}'), "'a' is given twice"),
    "duplicate field": (raw_file(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "'dtype' is given twice"),
    "metadata": (raw_file(b'{"__metadata__": {"x": 1}}', b""), "strings to strings"),
    "entry": (raw_file(b'{"a": 3}'), "unknown dtype None"),
    "unknown dtype": (changed("a", dtype="F33"), "'a' has the unknown dtype 'F33'"),
    "negative shape": (changed("a", shape=[-2]), "invalid shape"),
    "boolean shape": (changed("a", shape=[True, 2]), "invalid shape"),
    "fractional shape": (changed("a", shape=[2.0]), "invalid shape"),
    "one offset": (changed("a", data_offsets=[0]), "invalid data_offsets"),
    "negative offset": (changed("a", data_offsets=[-8, 0]), "invalid data_offsets"),
    "backwards": (changed("a", data_offsets=[8, 0]), "ends before it starts"),
    "out of range": (changed("b", data_offsets=[8, 900], shape=[892]), "truncated: tensor 'b'"),
    "not dtype times shape": (changed("a", shape=[3]), "takes 8 bytes, but F32 of shape [3] takes 12"),
    "half a byte": (changed("b", dtype="F4", shape=[7]), "takes 4 bytes, but F4 of shape [7]"),
    "overlap": (changed("b", data_offsets=[6, 10]), "'b' overlaps"),
    "hole": (changed("b", data_offsets=[9, 12], shape=[3]), "leaves a hole"),
    "cut data": (WHOLE[:-1], "truncated: tensor 'b'"),
    "bytes left over": (WHOLE + b"x", "1 bytes after its last tensor"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git-LFS pointer"),
}


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        open_store(path)
    assert caught.value.exit_code == 4 and caught.value.hint
    return caught.value


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_safetensors_is_refused(tmp_path, case):
    data, fact = DAMAGED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    error = refused(tmp_path)
    assert str(path) in error.what and fact in error.what


def test_the_undamaged_form_of_these_files_opens(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(WHOLE)
    assert list(open_store(tmp_path).infos) == ["a", "b"]


def index(folder: Path, weight_map: object) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map}))
    return path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(2)}, tmp_path / "s1.safetensors")
    save_file({"b": torch.ones(3)}, tmp_path / "s2.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("weight_map", "fact"),
    [
        ({"a": "/etc/passwd"}, "points outside"),
        ({"a": "../s1.safetensors"}, "points outside"),
        ({"a": "sub/s1.safetensors"}, "points outside"),
        ({"a": "..\\s1.safetensors"}, "points outside"),
        ({"a": ".."}, "points outside"),
        ({"a": ""}, "points outside"),
        ({"a": 5}, "points outside"),
        ({"a": "s1.safetensors", "c": "s9.safetensors"}, "s9.safetensors, which is missing"),
        ({"a": "s1.safetensors", "c": "s2.safetensors"}, "'c' in s2.safetensors, which does not hold it"),
        ({"a": "s2.safetensors", "b": "s1.safetensors"}, "but s1.safetensors holds it"),
        ({}, "no weight_map"),
        ("[1, 2]", "no weight_map"),
        ("{", "not valid JSON"),
        ('{"weight_map": {"a": "s1.safetensors", "a": "s2.safetensors"}}', "'a' is given twice"),
    ],
)
def test_wrong_index_is_refused(sharded, weight_map, fact):
    path = index(sharded, weight_map)
    error = refused(sharded)
    assert str(path) in error.what and fact in error.what


def test_tensor_in_two_shards_is_refused(sharded):
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, sharded / "s2.safetensors")
    index(sharded, {"a": "s1.safetensors", "b": "s2.safetensors"})
    assert "'a' is in two shards, s1.safetensors and s2.safetensors" in refused(sharded).what


def test_nothing_there_is_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere").what
    assert "holds no weights" in refused(tmp_path).what


class Touch:
    """A pickle that would create a file if it ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, legacy):
    state = {"w": torch.ones(2), "x": Touch(tmp_path / "ran")}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    error = refused(tmp_path)
    assert "needs more than tensors" in error.what and "safetensors" in error.hint
    assert "weights_only" not in error.what
    assert not (tmp_path / "ran").exists()


def test_plain_pickle_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    refused(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("loaded", "fact"),
    [
        ([torch.ones(2)], "holds a list"),
        (
            {"w": torch.ones(2), "epoch": 3, "optimizer": {}},
            "2 entries that are not tensors: epoch, optimizer",
        ),
        ({"w": torch.eye(3).to_sparse()}, "'w' is sparse"),
    ],
)
def test_pickle_that_is_no_table_of_tensors_is_refused(tmp_path, loaded, fact):
    torch.save(loaded, tmp_path / "pytorch_model.bin")
    assert fact in refused(tmp_path).what


@pytest.mark.parametrize("kept", [0, 2, 100, 700])
def test_cut_pickle_is_refused(tmp_path, kept):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in refused(tmp_path).what
