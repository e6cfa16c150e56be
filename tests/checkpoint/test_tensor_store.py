"""Reading: agreement with the safetensors library, row reads, pickles, cost of listing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from archtool.checkpoint.header import TensorInfo
from archtool.checkpoint.store import TensorStore, open_store
from archtool.checkpoint.values import check_finite
from archtool.errors import InputError

REPO = Path(__file__).parents[2]
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U16": torch.uint16, "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
}  # fmt: skip


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=generator).to(dtype)


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def run_python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], env=env, capture_output=True, text=True)


entries = st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3).map(tuple))
tables = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda n: n != "__metadata__"), entries, max_size=6)
relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(table=tables)
def test_store_reads_what_the_library_wrote(tmp_path, table):
    tensors = {
        name: random_tensor(DTYPES[dtype], shape, seed) for seed, (name, (dtype, shape)) in enumerate(table.items())
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    store = open_store(tmp_path)
    assert set(store.infos) == set(tensors)
    assert store.shards[0].metadata == {"format": "pt"}
    for name, tensor in tensors.items():
        info = store.infos[name]
        assert (info.dtype, info.shape, info.nbytes) == (*table[name], tensor.nbytes)
        assert store.read(name).dtype == tensor.dtype and store.read(name).shape == tensor.shape
        assert raw_bytes(store.read(name)) == raw_bytes(tensor) == store.read_bytes(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tensors = {
        "w": torch.arange(40.0).reshape(8, 5),
        "b": torch.arange(6, dtype=torch.bfloat16),
        "s": torch.tensor(3),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


@pytest.mark.parametrize("rows", [slice(0, 3), slice(5, None), slice(-2, None), slice(4, 4), slice(6, 2), slice(2, 99)])
def test_row_reads_equal_slices(folder, rows):
    store = open_store(folder)
    whole = torch.arange(40.0).reshape(8, 5)
    assert torch.equal(store.read("w", rows), whole[rows])
    assert store.read_bytes("w", rows) == raw_bytes(whole[rows])


def test_row_reads_refuse_steps_and_scalars(folder):
    store = open_store(folder)
    with pytest.raises(ValueError, match="contiguous"):
        store.read("w", slice(0, 8, 2))
    with pytest.raises(ValueError, match="no rows"):
        store.read("s", slice(0, 1))


def test_read_into_fills_from_an_offset(folder):
    store = open_store(folder)
    buffer = bytearray(8)
    store.read_into("w", memoryview(buffer), 4)
    assert buffer == raw_bytes(torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="not within"):
        store.read_into("w", memoryview(buffer), 156)


def test_read_tensor_is_writable_and_its_own(folder):
    store = open_store(folder)
    store.read("w").zero_()
    assert torch.equal(store.read("w"), torch.arange(40.0).reshape(8, 5))


def write_sharded(folder: Path, parts: dict[str, dict[str, torch.Tensor]]) -> None:
    folder.mkdir(exist_ok=True)
    for filename, tensors in parts.items():
        save_file(tensors, folder / filename, metadata={"format": "pt"})
    weight_map = {name: filename for filename, tensors in parts.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_digest_ignores_sharding_but_no_byte(tmp_path):
    a, b = torch.randn(3, 4), torch.arange(5)
    (tmp_path / "one").mkdir()
    save_file({"a": a, "b": b}, tmp_path / "one/model.safetensors")
    write_sharded(tmp_path / "two", {"x1.safetensors": {"b": b}, "x2.safetensors": {"a": a}})
    store = open_store(tmp_path / "two")
    assert [shard.filename for shard in store.shards] == ["x1.safetensors", "x2.safetensors"]
    assert list(store.infos) == ["b", "a"]
    one = open_store(tmp_path / "one").digest()
    assert store.digest() == one
    for other in ({"a": a + 1, "b": b}, {"a": a.reshape(4, 3), "b": b}, {"c": a, "b": b}):
        save_file(other, tmp_path / "one/model.safetensors")
        assert open_store(tmp_path / "one").digest() != one


def test_names_followed_through_cache_symlinks(folder, tmp_path):
    snapshot = tmp_path / "snapshots"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert open_store(snapshot).digest() == open_store(folder).digest()


def test_any_single_safetensors_in_a_folder(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert set(open_store(folder).infos) == {"w", "b", "s"}
    (folder / "more.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    with pytest.raises(InputError, match="2 safetensors files"):
        open_store(folder)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_tensors_equal_torch_load(tmp_path, legacy):
    w = torch.randn(4, 3)
    state = {"w": w, "tied": w, "view": w[1:3], "t": w.t(), "h": w.bfloat16(), "s": torch.tensor(2)}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    store = open_store(tmp_path)
    assert list(store.infos) == list(state)
    for name, tensor in state.items():
        assert torch.equal(store.read(name), tensor)
    assert torch.equal(store.read("view", slice(1, 2)), w[2:3])
    save_file({name: t.clone().contiguous() for name, t in state.items()}, tmp_path / "same.safetensors")
    assert store.digest() == open_store(tmp_path / "same.safetensors").digest()


def test_sharded_pickles(tmp_path):
    parts = {"p1.bin": {"a": torch.randn(2)}, "p2.bin": {"b": torch.randn(3)}}
    for filename, tensors in parts.items():
        torch.save(tensors, tmp_path / filename)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "p1.bin", "b": "p2.bin"}}))
    store = open_store(tmp_path)
    assert torch.equal(store.read("a"), parts["p1.bin"]["a"]) and torch.equal(store.read("b"), parts["p2.bin"]["b"])


def sparse_checkpoint(folder: Path, shards: int, rows: int) -> int:
    """Shards of 16 bf16 tensors of (rows, 4096), all holes; returns the bytes they claim."""
    weight_map = {}
    for shard in range(shards):
        table, position = {}, 0
        for index in range(16):
            stop = position + rows * 4096 * 2
            table[f"layers.{shard}.{index}"] = {
                "dtype": "BF16",
                "shape": [rows, 4096],
                "data_offsets": [position, stop],
            }
            position = stop
        head = json.dumps(table).encode()
        with open(folder / f"s{shard}.safetensors", "wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            file.truncate(8 + len(head) + position)
        weight_map.update(dict.fromkeys(table, f"s{shard}.safetensors"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return shards * 16 * rows * 4096 * 2


LIST_CODE = """
import sys, time
from pathlib import Path
from archtool.checkpoint.store import open_store
def peak_kib():  # of this program alone: ru_maxrss would start at the peak of the process that forked it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
began = time.perf_counter()
store = open_store(Path(sys.argv[1]))
print(time.perf_counter() - began, sum(i.nbytes for i in store.infos.values()), "torch" in sys.modules)
print(peak_kib())
"""


def test_listing_20_gb_is_quick_and_needs_no_torch(tmp_path):
    size_bytes = sparse_checkpoint(tmp_path, shards=4, rows=39_063)
    assert size_bytes > 20e9
    done = run_python(LIST_CODE, tmp_path)
    seconds, listed, torch_loaded, peak_kib = done.stdout.split()
    assert int(listed) == size_bytes and torch_loaded == "False"
    assert float(seconds) < 1 and int(peak_kib) < 100 * 1024


ROWS_CODE = """
import sys, torch
from pathlib import Path
from archtool.checkpoint.store import open_store
def peak_kib():  # of this program alone: ru_maxrss would start at the peak of the process that forked it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
store = open_store(Path(sys.argv[1])); before = peak_kib()
rows = store.read("layers.0.3", slice(100_000, 102_000))
print(tuple(rows.shape), int(rows.count_nonzero()), (peak_kib() - before) // 1024)
"""


def test_row_read_takes_only_those_rows(tmp_path):
    sparse_checkpoint(tmp_path, shards=1, rows=200_000)
    done = run_python(ROWS_CODE, tmp_path)
    shape, nonzero, grown_mib = done.stdout.rsplit(maxsplit=2)
    assert shape == "(2000, 4096)" and nonzero == "0"
    assert int(grown_mib) < 16 + 24  # the rows take 15.6 MiB, the tensor 1.5 GiB


def test_reading_a_file_that_shrank_is_refused(folder):
    store = open_store(folder)
    os.truncate(folder / "model.safetensors", store.infos["w"].start + 3)
    with pytest.raises(InputError, match="became shorter"):
        store.read("w")


def test_dtype_that_torch_lacks_is_listed_but_not_read(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(6))
    store = TensorStore([TensorInfo("q", "F6_E2M3", (8,), path, 0, 6)], [])
    assert store.read_bytes("q") == bytes(6)
    with pytest.raises(InputError, match="F6_E2M3"):
        store.read("q")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_check_finite_counts(dtype):
    bad = torch.ones(6, 4)
    bad[1, 2], bad[3, 0], bad[5, 3] = float("nan"), float("inf"), float("-inf")
    with pytest.raises(InputError, match=r"'w' holds 1 NaN and 2 infinite values of 24"):
        check_finite(bad.to(dtype), "w")
    check_finite(torch.ones(6, 4).to(dtype), "w")
    check_finite(torch.arange(3), "ids")


def test_check_finite_sees_every_chunk_of_large_and_strided_tensors():
    large = torch.zeros(3, 2**21)
    large[2, -1] = float("nan")
    for view in (large, large[:, 1:]):
        with pytest.raises(InputError, match="1 NaN"):
            check_finite(view, "w")
