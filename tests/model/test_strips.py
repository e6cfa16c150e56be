"""Bytes from file to file: the same as through tensors, no more read than kept, bad values refused, no torch needed."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from archtool.checkpoint import store as store_module
from archtool.checkpoint.store import TensorStore, open_store
from archtool.errors import InputError
from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select
from archtool.model import strips as strips_module
from archtool.model.apply import apply
from archtool.model.lazy import Held, load
from archtool.model.load import load as open_checkpoint
from archtool.model.save import save
from archtool.model.strips import strip
from tests.model.tiny import tiny


def on_disk(tmp_path, family, dtype=torch.float32):
    folder = tmp_path / family
    folder.mkdir()
    made = tiny(family)
    save(replace(made, weights={n: Held(load(w).to(dtype)) for n, w in made.weights.items()}), folder)
    return open_checkpoint(folder)


def prefixes(checkpoint, start=0):
    """Other counts in every block, of ffn units and of heads."""
    size = checkpoint.architecture.size
    axes = [a for a in size if a.endswith((".ffn.hidden", ".attn.kv"))]
    kept = {a: range(start, max(start + 1, size[a] - 1 - int(a[1]))) for a in axes}
    return Edit("t", tuple(Select(Selection(a, tuple(r))) for a, r in kept.items()))


@pytest.mark.parametrize("family", ["llama", "vit", "timm_vit", "bert", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("skipped_bytes", [0, 10**9])
def test_files_equal_those_made_of_tensors(tmp_path, monkeypatch, family, dtype, skipped_bytes):
    monkeypatch.setattr(strips_module, "BLOCK_BYTES", 512)
    monkeypatch.setattr(store_module, "SKIPPED_BYTES", skipped_bytes)
    filed = on_disk(tmp_path, family, dtype)
    edit = prefixes(filed, start=1 if family != "llama" else 0)
    small = apply(filed, edit)
    matrices = [strip(w) is not None for n, w in small.weights.items() if ".ffn." in n or ".attn." in n]
    assert any(matrices) and (all(matrices) or family == "gpt2")  # GPT-2's matrices lie transposed in their file
    held = apply(replace(filed, weights={n: Held(load(w)) for n, w in filed.weights.items()}), edit)
    for name, checkpoint in (("a", small), ("b", held)):
        (tmp_path / name).mkdir()
        save(checkpoint, tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_gathered_indices_and_ranges_of_inner_dimensions_are_no_strips(tmp_path):
    checkpoint = on_disk(tmp_path, "vit")
    axis = "b0.ffn.hidden"
    gathered = apply(checkpoint, Edit("t", (Select(Selection(axis, (0, 2, 3))),)))
    assert strip(gathered.weights["b0.ffn.fc1.weight"]) is None
    turned = apply(checkpoint, Edit("t", (Select(Selection(axis, (1, 0))),)))
    assert strip(turned.weights["b0.ffn.fc1.weight"]) is None
    again = apply(apply(checkpoint, Edit("t", (Select(Selection(axis, tuple(range(2, 30)))),))),
                  Edit("t", (Select(Selection(axis, tuple(range(3, 9)))),)))  # fmt: skip
    found = strip(again.weights["b0.ffn.fc2.weight"])
    assert found is not None and (found.skip, found.kept) == (20, 24)
    assert strip(tiny("vit").weights["b0.ffn.fc1.weight"]) is None


def test_only_what_is_kept_is_read(tmp_path, monkeypatch):
    checkpoint = on_disk(tmp_path, "llama")
    monkeypatch.setattr(store_module, "SKIPPED_BYTES", 1)
    reads = Counter()
    fill, rows = TensorStore._fill, store_module.pread_rows

    def counted(self, info, offset, buffer):
        reads["whole"] += len(buffer)
        fill(self, info, offset, buffer)

    def counted_rows(path, position, stride, buffer):
        reads["columns"] += buffer.nbytes
        rows(path, position, stride, buffer)

    monkeypatch.setattr(TensorStore, "_fill", counted)
    monkeypatch.setattr(store_module, "pread_rows", counted_rows)
    (tmp_path / "out").mkdir()
    small = apply(checkpoint, prefixes(checkpoint))
    save(small, tmp_path / "out")
    infos = open_store(tmp_path / "out").infos
    stored = sum(info.nbytes for info in infos.values())
    assert reads["columns"] > 0 and sum(reads.values()) == stored


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_bad_values_are_refused_where_they_are_kept(tmp_path, bad, dtype):
    made = tiny("llama")
    weights = {n: Held(load(w).to(dtype)) for n, w in made.weights.items()}
    weights["b1.ffn.down.weight"].tensor[3, 5] = bad
    folder = tmp_path / "bad"
    folder.mkdir()
    save(replace(made, weights=weights), folder, finite=False)
    for count, refused in ((6, True), (5, False)):
        small = apply(open_checkpoint(folder), Edit("t", (Select(Selection("b1.ffn.hidden", tuple(range(count)))),)))
        (tmp_path / str(count)).mkdir()
        if refused:
            with pytest.raises(InputError, match="down_proj"):
                save(small, tmp_path / str(count))
        else:
            save(small, tmp_path / str(count))


def test_numbers_of_any_magnitude_and_integers_pass(tmp_path):
    from archtool.checkpoint.values import check_finite_bytes

    for dtype, name in (
        (torch.bfloat16, "BF16"),
        (torch.float16, "F16"),
        (torch.float32, "F32"),
        (torch.float64, "F64"),
    ):
        extremes = torch.tensor(
            [torch.finfo(dtype).max, torch.finfo(dtype).min, torch.finfo(dtype).tiny, 0.0], dtype=dtype
        )
        check_finite_bytes(memoryview(extremes.view(torch.uint8).numpy().data), name, "w")
    check_finite_bytes(memoryview(b"\xff" * 16), "I32", "w")


CHILD = """
import sys
from pathlib import Path
from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select
from archtool.model.apply import apply
from archtool.model.load import load
from archtool.model.save import save
checkpoint = load(sys.argv[1])
save(apply(checkpoint, Edit("t", (Select(Selection("b0.ffn.hidden", (0, 1, 2))),))), Path(sys.argv[2]))
print("torch" in sys.modules)
"""


def test_a_prefix_is_cut_without_torch(tmp_path):
    on_disk(tmp_path, "llama")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", CHILD, str(tmp_path / "llama"), str(tmp_path / "out")]
    assert json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.lower()) is False
