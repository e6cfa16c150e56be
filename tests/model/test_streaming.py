"""Checkpoints stream: little memory, one reading, the same bits as in memory, and edits that replay."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from archtool.checkpoint.store import TensorStore, open_store
from archtool.checkpoint.writer import TensorHeader, plan_shards, write_shards
from archtool.errors import InputError
from archtool.ir.axes import Selection
from archtool.ir.codec import from_json, to_json
from archtool.ir.edit import Edit, Encode, Select
from archtool.ir.encodings import Affine
from archtool.model import lazy as lazy_module
from archtool.model.ahead import InTurn, ahead, then
from archtool.model.apply import apply
from archtool.model.codec import encode
from archtool.model.lazy import Held, blocks, by_rows, load
from archtool.model.load import load as open_checkpoint
from archtool.model.save import save
from archtool.operators.registry import operator_class
from archtool.transforms.prune.criteria.magnitude import scores
from archtool.transforms.quantize.rtn import rtn_edit
from tests.model.tiny import tiny

W8 = Affine(8, 0, True)


@pytest.fixture
def small_blocks(monkeypatch):
    """Tiny tensors go through in many blocks."""
    monkeypatch.setattr(lazy_module, "BLOCK_BYTES", 512)


def on_disk(tmp_path, name="llama"):
    folder = tmp_path / name
    folder.mkdir()
    save(tiny(name), folder)
    return open_checkpoint(folder)


def prune_edit(checkpoint):
    arch = checkpoint.architecture
    axes = [a for a in arch.size if a.endswith("ffn.hidden")]
    return Edit("t", tuple(Select(Selection(a, tuple(range(1, arch.size[a] - 1, 2)))) for a in axes))


def both(checkpoint):
    pruned = apply(checkpoint, prune_edit(checkpoint))
    return apply(pruned, rtn_edit(pruned.architecture, W8))


def hashes(checkpoint, folder):
    folder.mkdir()
    return {name: file.sha256 for name, file in save(checkpoint, folder).items()}


def counted(monkeypatch):
    reads = Counter()
    real = TensorStore._fill

    def fill(self, info, offset, buffer):
        reads[info.name] += len(buffer)
        real(self, info, offset, buffer)

    monkeypatch.setattr(TensorStore, "_fill", fill)
    return reads


@pytest.mark.parametrize("scheme", [W8, Affine(4, 8, True), Affine(4, 8, False), Affine(8, 0, False)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_blocks_encode_to_the_same_bits_as_the_whole(tmp_path, monkeypatch, small_blocks, scheme, dtype):
    monkeypatch.setattr("archtool.model.codec.PART_NUMEL", 96)
    checkpoint = tiny("llama")
    weights = {n: Held(load(w).to(dtype)) for n, w in checkpoint.weights.items()}
    names = ["embed.tokens.token.weight", "b1.ffn.down.weight"]
    dense = replace(checkpoint, weights=weights)
    save(apply(dense, Edit("t", tuple(Encode(n, scheme) for n in names))), tmp_path)
    stored = open_checkpoint(tmp_path)
    monkeypatch.setattr("archtool.model.codec.PART_NUMEL", 2**30)
    for name in names:
        for leaf, expected in encode(scheme, weights[name].tensor).items():
            assert torch.equal(load(stored.weights[f"{name}_{leaf}"]), expected)


@pytest.mark.parametrize("family", ["llama", "timm_vit", "bert"])
def test_streamed_edits_equal_edits_in_memory(tmp_path, small_blocks, family):
    """Fused (timm's qkv) and separate tensors, from disk in small blocks and from memory as a whole."""
    filed = on_disk(tmp_path, family)
    held = replace(filed, weights={n: Held(load(w)) for n, w in filed.weights.items()})
    streamed, whole = both(filed), both(held)
    for name, lazy in whole.weights.items():
        parts = list(lazy_module.blocks(streamed.weights[name]))
        assert torch.equal(torch.cat(parts) if parts[0].dim() else parts[0], load(lazy)), name
    assert hashes(both(filed), tmp_path / "a") == hashes(both(held), tmp_path / "b")


def test_each_tensor_is_read_once_and_integers_come_before_their_scales(tmp_path, monkeypatch, small_blocks):
    checkpoint = on_disk(tmp_path)
    pruned = apply(checkpoint, rtn_edit(checkpoint.architecture, W8))
    reads = counted(monkeypatch)
    hashes(pruned, tmp_path / "out")
    infos = checkpoint.weights["b0.ffn.up.weight"].store.infos
    assert dict(reads) == {name: info.nbytes for name, info in infos.items()}
    order = list(open_store(tmp_path / "out").infos)
    scaled = [name.removesuffix("_scale") for name in order if name.endswith("_scale")]
    assert scaled and all(order.index(f"{name}_q") < order.index(f"{name}_scale") for name in scaled)


def test_scores_read_only_tensors_that_carry_the_axis(tmp_path, monkeypatch):
    checkpoint = on_disk(tmp_path)
    reads = counted(monkeypatch)
    scores(checkpoint, ["b1.ffn.hidden"])
    infos = checkpoint.weights["b1.ffn.up.weight"].store.infos
    assert dict(reads) == {n: i.nbytes for n, i in infos.items() if ".1.mlp." in n}


def test_scales_are_made_again_where_blocks_did_not_cover_every_row(small_blocks):
    matrix = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    expected = encode(W8, matrix)["scale"]
    leaves = lazy_module.Leaves(Held(matrix), W8)
    leaves.q_rows(8, 24), leaves.q_rows(0, 4)
    assert torch.equal(leaves.small["scale"], expected)


def test_a_transposed_tensor_is_read_as_one_block(tmp_path, monkeypatch):
    from archtool.families.names import Entry
    from archtool.model.lazy import Filed, Picked

    matrix = torch.arange(48.0).reshape(6, 8)
    write_shards(tmp_path, plan_shards([TensorHeader("w", "F32", (6, 8))]), lambda name: [matrix.numpy().tobytes()], {})
    reads = counted(monkeypatch)
    filed = Filed(open_store(tmp_path), Entry("w", ("w",), transpose=True), 0, 0, (8, 6))
    chosen = Picked(filed, (tuple(range(0, 8, 2)), (0, 3)))
    assert not by_rows(chosen)
    (block,) = blocks(chosen, 8)
    assert torch.equal(block, matrix.T[::2][:, [0, 3]]) and reads["w"] == matrix.nbytes


def test_an_edit_chain_replayed_from_json_gives_the_same_hash(tmp_path):
    checkpoint = on_disk(tmp_path)
    first = prune_edit(checkpoint)
    second = rtn_edit(apply(checkpoint, first).architecture, W8)
    direct = hashes(apply(apply(checkpoint, first), second), tmp_path / "direct")
    replayed = open_checkpoint(tmp_path / "llama")
    for data in json.loads(json.dumps([to_json(first), to_json(second)])):
        replayed = apply(replayed, from_json(Edit, data, operator_class, "edit"))
    assert hashes(replayed, tmp_path / "replayed") == direct


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_bad_values_are_refused_dense_and_encoded(tmp_path, bad, dtype):
    checkpoint = tiny("llama")
    weights = {n: Held(load(w).to(dtype)) for n, w in checkpoint.weights.items()}
    weights["b1.ffn.down.weight"].tensor[3, 5] = bad
    broken = replace(checkpoint, weights=weights)
    for i, each in enumerate((broken, apply(broken, rtn_edit(broken.architecture, W8)))):
        with pytest.raises(InputError, match="down_proj"):
            hashes(each, tmp_path / str(i))


def test_jobs_ahead_keep_order_errors_and_the_number_of_threads():
    before = torch.get_num_threads()
    assert list(ahead([lambda i=i: i * i for i in range(50)], workers=3)) == [i * i for i in range(50)]

    def fails():
        raise InputError("gone", hint="")

    with pytest.raises(InputError):
        list(ahead([lambda: 1, fails, *[lambda: 2] * 20], workers=2))
    assert torch.get_num_threads() == before


def test_jobs_in_turn_wait_for_all_before_them():
    done = []
    jobs = [partial(done.append, i) for i in range(8)]
    jobs[5] = then(InTurn(lambda: list(done)), sorted)
    results = list(ahead(jobs, workers=3))
    assert set(results[5]) >= {0, 1, 2, 3, 4} and results[:5] == [None] * 5
    started = ahead([lambda: 0, InTurn(lambda: done.append("late"))], workers=2)
    assert next(started) == 0 and "late" not in done
    started.close()
    assert "late" not in done


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_any_finite_numbers_encode_as_the_formula_says(bits, dtype):
    """Every bit pattern, subnormal ones too, in rows that mix all exponents and in rows of one."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(-(2**15), 2**15, (200, 64), dtype=torch.int16, generator=generator)
    alike = (patterns & 0x807F) | (torch.arange(200)[:, None] % 255 * 2**7).to(torch.int16)
    wide = torch.cat([patterns, alike]).view(torch.bfloat16).double()
    if dtype is torch.float32:
        wide = wide * (1 + torch.rand(wide.shape, dtype=torch.float64, generator=generator))
    matrix = wide.to(dtype)
    matrix = torch.where(torch.isfinite(matrix.float()), matrix, 1)
    top = 2 ** (bits - 1) - 1
    scale = (matrix.float().abs().amax(1) / top).clamp_min(torch.finfo(torch.float32).tiny)
    expected = (matrix.float() / scale[:, None]).round().clamp(-top, top)
    made = encode(Affine(bits, 0, True), matrix)
    q = made["q"] if bits == 8 else torch.stack((made["q"] & 15, made["q"] >> 4), -1).flatten(1).to(torch.int8) - 8
    assert torch.equal(made["scale"].flatten(), scale) and torch.equal(q.float(), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_values_are_refused_by_name_while_scoring(tmp_path, small_blocks, bad):
    checkpoint = tiny("llama")
    weights = {n: Held(load(w)) for n, w in checkpoint.weights.items()}
    weights["b1.ffn.down.weight"].tensor[3, 5] = bad
    with pytest.raises(InputError, match=r"b1\.ffn\.down\.weight"):
        scores(replace(checkpoint, weights=weights), ["b1.ffn.hidden"])


def test_values_whose_squares_overflow_are_scored(small_blocks):
    checkpoint = tiny("llama")
    weights = {n: Held(load(w)) for n, w in checkpoint.weights.items()}
    weights["b1.ffn.down.weight"].tensor[3, 5] = 3e38
    found = scores(replace(checkpoint, weights=weights), ["b1.ffn.hidden"])["b1.ffn.hidden"]
    assert [i for i, score in enumerate(found) if score == float("inf")] == [5]


MEASURE = """
import re, sys
from pathlib import Path
from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select
from archtool.ir.encodings import Affine
from archtool.model.apply import apply
from archtool.model.load import load
from archtool.model.save import save
from archtool.transforms.prune.criteria.magnitude import scores
from archtool.transforms.quantize.rtn import rtn_edit
import archtool.model.codec, archtool.model.pick

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

checkpoint = load(sys.argv[1])
before = peak()
axis = "b0.ffn.hidden"
found = scores(checkpoint, [axis])[axis]
order = sorted(range(len(found)), key=lambda i: -found[i])
pruned = apply(checkpoint, Edit("t", (Select(Selection(axis, tuple(sorted(order[: len(found) // 2])))),)))
save(apply(pruned, rtn_edit(pruned.architecture, Affine(8, 0, True))), Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_peak_memory_does_not_follow_the_size_of_the_checkpoint(tmp_path):
    """300 MB, of which the embedding alone is more than what may be used."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir(), out.mkdir()
    width, hidden, vocab = 1024, 16384, 98304
    shapes = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    at = "model.layers.0"
    shapes |= {f"{at}.self_attn.{n}_proj.weight": (width, width) for n in "qkvo"}
    shapes |= {f"{at}.mlp.{n}_proj.weight": (hidden, width) for n in ("gate", "up")}
    shapes |= {f"{at}.mlp.down_proj.weight": (width, hidden), f"{at}.input_layernorm.weight": (width,)}
    shapes[f"{at}.post_attention_layernorm.weight"] = (width,)
    chunk = b"\x12\x3c\x80\xbd" * 2**18
    headers = [TensorHeader(n, "BF16", s) for n, s in shapes.items()]
    sizes = {h.name: h.nbytes for h in headers}

    def produce(name):
        return (chunk[: min(len(chunk), sizes[name] - i)] for i in range(0, sizes[name], len(chunk)))

    write_shards(source, plan_shards(headers), produce, {})
    config = dict(model_type="llama", hidden_size=width, intermediate_size=hidden, num_hidden_layers=1,
                  num_attention_heads=16, vocab_size=vocab, tie_word_embeddings=True)  # fmt: skip
    (source / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(out)], capture_output=True, text=True, check=True
    )
    assert sum(sizes.values()) > 300e6 and int(done.stdout) < 150e6
    assert (out / "model.safetensors").stat().st_size < 0.5 * sum(sizes.values())
