"""Item 4: what is written is what was in memory, in a process without archtool, and as small as the report says.

python benchmarks/spine_export.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import NoData, archtool, arguments, emit, minilm_folder, skip

if TYPE_CHECKING:
    from archtool.ir.edit import Edit
    from archtool.model.checkpoint import Checkpoint

DIALECTS = ("stock", "sibling", "remote")
TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 96, "hidden_size": 48, "intermediate_size": 96,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip


def main() -> None:
    """Print every claim."""
    arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            minilm = minilm_folder()
            exported("pruned_minilm", minilm, folder, "prune", "--budget", "params=0.8x")
            exported("int8_minilm", minilm, folder, "quantize", "--scheme", "w8")
        except NoData as why:
            names = ("pruned_minilm", "int8_minilm")
            skip((f"spine.4.{n}_{what}" for n in names for what in ("max_abs_diff", "bytes_off")), why)
        write_llama(folder / "llama")
        words = ("prune", "--budget", "params=0.7x", "--protect", "b0")
        out = exported("ragged_llama", folder / "llama", folder, *words)
        check_uneven(out)
    masked_parents()


def exported(name: str, model: Path, scratch: Path, *words: str) -> Path:
    """Run one editing command on a model and print what its verification and its sizes say; its folder."""
    out = scratch / name
    records = archtool(words[0], model, *words[1:], "--out", out, "--json").json()["records"]
    found = json.loads((out / "verified.json").read_text())
    if any(f["dialect"] not in DIALECTS for f in found) or not found:
        raise RuntimeError(f"{name} was not written in a dialect that loads without archtool: {found}")
    notes = [f"{f['dialect']}, " + ", ".join(f"{n} up to {top:.3g}" for n, _, top in f["outputs"]) for f in found]
    errors = "".join(f["error"] for f in found)
    emit(f"spine.4.{name}_max_abs_diff", max(f["max_abs_diff"] for f in found), note=errors or "; ".join(notes))
    said = records["parent"]["costs"]["size_bytes"] - records["child"]["costs"]["size_bytes"]
    seen = file_bytes(model) - file_bytes(out / "model")
    emit(f"spine.4.{name}_bytes_off", said - seen, note=f"smaller by {seen} bytes")
    return out


def file_bytes(folder: Path) -> int:
    """Bytes of the weight files."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def write_llama(folder: Path) -> None:
    """Write a small Llama of random weights."""
    from archtool.export.model import export_model
    from archtool.model.preset import built

    export_model(built("llama", TINY_LLAMA, seed=0), folder)


def check_uneven(out: Path) -> None:
    """RuntimeError where all blocks have the same widths: then the claim would not be about ragged models."""
    from archtool.model.load import load

    sizes = load(out / "model").architecture.sizes
    for structure in ("ffn.hidden", "attn.kv"):
        widths = {n for axis, n in sizes if axis.endswith(structure)}
        if len(widths) < 2:
            raise RuntimeError(f"the pruned Llama is not ragged: {structure} is {widths} in every block")


def masked_parents() -> None:
    """The sliced model against the masked parent on every axis of every family of the tests' tiny models."""
    from archtool.ir.axes import Selection
    from archtool.ir.edit import Edit, Select
    from tests.model.test_masked_parent import kept, selectable
    from tests.model.tiny import CONFIGS, tiny

    worst, axes = 0.0, 0
    for family in sorted(CONFIGS):
        checkpoint = tiny(family)
        for axis in selectable(checkpoint):
            keep = kept(checkpoint.architecture.size[axis])
            worst = max(worst, sliced_difference(checkpoint, Edit("check", (Select(Selection(axis, keep)),))))
            axes += 1
    note = f"{axes} axes of {len(CONFIGS)} families ({', '.join(sorted(CONFIGS))})"
    emit("spine.4.masked_parent_max_rel_diff", worst, note=note)


def sliced_difference(checkpoint: Checkpoint, edit: Edit) -> float:
    """Largest difference of an output, relative to the largest value where that is above 1."""
    import torch

    from archtool.model.apply import apply
    from archtool.model.masked import masked_parent
    from tests.model.tiny import inputs

    feed, other = inputs(checkpoint), inputs(checkpoint)
    ((axis, keep),) = [(d.selection.axis, torch.tensor(d.selection.keep)) for d in edit.decisions]  # type: ignore[union-attr]
    if axis == "vocab":
        other = {"input_ids": 2 + feed["input_ids"] % (len(keep) - 2)}
        feed = {"input_ids": keep[other["input_ids"]]}
    with torch.inference_mode():
        expected: dict[str, Any] = masked_parent(checkpoint.module(), edit)(**feed)
        got = apply(checkpoint, edit).module()(**other)
    worst = 0.0
    for name, value in got.items():
        reference = expected[name] if expected[name].shape == value.shape else expected[name][..., keep]
        worst = max(worst, float((value - reference).abs().max() / reference.abs().max().clamp_min(1.0)))
    return worst


if __name__ == "__main__":
    main()
