"""Writing: byte-identical files, sharding, streaming, wrong producers."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from archtool.checkpoint.store import TensorStore, open_store
from archtool.checkpoint.writer import (
    ShardPlan,
    TensorHeader,
    plan_like,
    plan_shards,
    write_safetensors,
    write_shards,
)
from archtool.errors import ResourceError

REPO = Path(__file__).parents[2]
TORCH = [
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.uint16,
    torch.int8,
    torch.bool,
]
tables = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda n: n != "__metadata__"),
    st.tuples(st.sampled_from(TORCH), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
    max_size=7,
)


def headers_of(store: TensorStore) -> list[TensorHeader]:
    return [TensorHeader(info.name, info.dtype, info.shape) for info in store.infos.values()]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables, metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=1))
def test_rewriting_gives_the_librarys_bytes(tmp_path, table, metadata):
    tensors = {name: torch.ones(shape).to(dtype) for name, (dtype, shape) in table.items()}
    source, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(tensors, source, metadata=metadata)
    store = open_store(source)
    for order in (None, store.shards[0].names):
        written = write_safetensors(again, headers_of(store)[::-1], store.chunks, store.shards[0].metadata, order=order)
        assert again.read_bytes() == source.read_bytes()
        assert written.size_bytes == source.stat().st_size
        assert written.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def constant(headers: list[TensorHeader], value: int = 1) -> dict[str, list[bytes]]:
    return {header.name: [bytes([value]) * header.nbytes] for header in headers}


def test_given_order_is_kept_and_new_names_follow(tmp_path):
    headers = [
        TensorHeader(name, dtype, (2,)) for name, dtype in [("z", "I8"), ("n", "F64"), ("a", "F32"), ("m", "I8")]
    ]
    path = tmp_path / "x.safetensors"
    write_safetensors(path, headers, constant(headers).__getitem__, {}, order=["z", "a"])
    assert list(open_store(path).infos) == ["z", "a", "n", "m"]


def test_library_reads_what_was_written_in_pieces(tmp_path):
    values = torch.randn(1000, 3)
    raw = values.numpy().tobytes()
    pieces = [memoryview(raw)[:7], bytearray(raw[7:500]), raw[500:], b""]
    header = TensorHeader("w", "F32", (1000, 3))
    write_safetensors(tmp_path / "x.safetensors", [header], lambda name: iter(pieces), {"made": "here"})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["w"], values)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"made": "here"}


def test_pieces_may_be_views_of_wider_items_and_may_be_reused(tmp_path):
    header = TensorHeader("w", "F32", (3, 2**20))
    buffer = torch.empty(2**20)

    def produce(name: str):
        for row in range(3):
            yield buffer.fill_(row).numpy().data

    write_safetensors(tmp_path / "x.safetensors", [header], produce, {})
    written = load_file(tmp_path / "x.safetensors")["w"]
    assert torch.equal(written, torch.arange(3.0)[:, None].expand(3, 2**20))


@pytest.mark.parametrize("sizes", [[7], [9], [4, 5], []])
def test_wrong_byte_count_is_a_bug(tmp_path, sizes):
    header = TensorHeader("w", "F32", (2,))
    with pytest.raises(RuntimeError, match="'w' must have 8 bytes"):
        write_safetensors(tmp_path / "x", [header], lambda name: [bytes(size) for size in sizes], {})


def test_same_name_twice_is_a_bug(tmp_path):
    header = TensorHeader("w", "F32", (2,))
    with pytest.raises(ValueError, match="twice"):
        write_safetensors(tmp_path / "x", [header, header], lambda name: [bytes(8)], {})


def test_plan_shards_fills_files_up_to_the_limit():
    headers = [TensorHeader(f"t{index}", "I8", (size,)) for index, size in enumerate([4, 4, 4, 20, 1, 1])]
    plan = plan_shards(headers, max_bytes=8)
    assert [[header.name for header in shard.headers] for shard in plan] == [
        ["t0", "t1"],
        ["t2"],
        ["t3"],
        ["t4", "t5"],
    ]
    assert [shard.filename for shard in plan] == [f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)]
    assert [shard.filename for shard in plan_shards(headers, 34)] == ["model.safetensors"]
    assert plan_shards([]) == (ShardPlan("model.safetensors", ()),)


def test_one_shard_has_no_index(tmp_path):
    headers = [TensorHeader("w", "F16", (3,))]
    written = write_shards(tmp_path, plan_shards(headers), constant(headers).__getitem__, {"format": "pt"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"] == list(written)


def test_shards_and_index_are_as_transformers_writes_them(tmp_path):
    headers = [TensorHeader(name, "F32", (2, 2)) for name in "abc"]
    written = write_shards(tmp_path, plan_shards(headers, 32), constant(headers).__getitem__, {"format": "pt"})
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 48}
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index["weight_map"] == {"a": first, "b": first, "c": second}
    assert {name: file.size_bytes for name, file in written.items()} == {
        name: (tmp_path / name).stat().st_size for name in (first, second)
    }
    assert list(open_store(tmp_path).infos) == ["a", "b", "c"]


def test_plan_like_repeats_the_files_byte_for_byte(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    parts = {
        "model-a.safetensors": {"z": torch.randn(3), "b": torch.arange(2)},
        "model-b.safetensors": {"a": torch.ones(1)},
    }
    for filename, tensors in parts.items():
        save_file(tensors, source / filename, metadata={"format": "pt"})
    weight_map = {name: filename for filename, tensors in parts.items() for name in tensors}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    store = open_store(source)
    plan = plan_like(store.shards, headers_of(store))
    write_shards(target, plan, store.chunks, {"format": "pt"}, total_size=32)
    for filename in parts:
        assert (target / filename).read_bytes() == (source / filename).read_bytes()
    assert plan_like(store.shards, headers_of(store)[:2]) == plan_shards(headers_of(store)[:2])


def test_more_than_the_disk_holds_is_refused_before_writing(tmp_path):
    header = TensorHeader("w", "F64", (2**50,))
    with pytest.raises(ResourceError, match="are free"):
        write_safetensors(tmp_path / "x", [header], lambda name: [], {})
    assert not (tmp_path / "x").exists()


MEMORY_CODE = """
import sys
from pathlib import Path
from archtool.checkpoint.writer import TensorHeader, write_safetensors
def peak_kib():  # of this program alone: ru_maxrss would start at the peak of the process that forked it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
buffer = bytearray(2**20); before = peak_kib()
header = TensorHeader("w", "U8", (96 * 2**20,))
write_safetensors(Path(sys.argv[1]), [header], lambda name: (buffer for _ in range(96)), {})
print((peak_kib() - before) // 1024, "torch" in sys.modules)
"""


def test_writer_holds_one_chunk(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_CODE, str(tmp_path / "x")],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    grown_mib, torch_loaded = done.stdout.split()
    assert int(grown_mib) < 24 and torch_loaded == "False"
