"""How the engine opens, writes and reads models, and what it does when a run is complete."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archtool.config.recipe import Recipe
from archtool.run.persist import Hooks
from archtool.run.step import State

VERIFIED_BYTES = 1_000_000_000
"""Models up to this size are compared with a reload at the end of a run; larger ones on request."""


def open_model(recipe: Recipe) -> State:
    """The first state of a recipe."""
    from archtool.run.inputs import open_checkpoint

    return State(checkpoint=open_checkpoint(recipe))


def save_state(state: State, folder: Path) -> str:
    """Write ``folder/model`` in the first exact dialect and ``folder/edit.json``; the hash of the weights."""
    from archtool.export.model import export_model
    from archtool.export.verify import record
    from archtool.model.foreign import Foreign
    from archtool.run.modules import save_module

    if isinstance(state.checkpoint, Foreign):
        save_edits(state, folder)
        return save_module(state, folder, VERIFIED_BYTES)
    wanted = state.records.get("export", {})
    exported = export_model(
        state.checkpoint, folder / "model", wanted.get("dialect", "auto"), onnx="onnx" in wanted.get("formats", ())
    )
    save_edits(state, folder)
    (folder / "export.json").write_text(json.dumps(_facts(exported, state), indent=1) + "\n", encoding="utf-8")
    if exported.size_bytes <= VERIFIED_BYTES:
        record(state.checkpoint, exported, folder)
    return combined({name: file.sha256 for name, file in exported.weights.items()})


def save_edits(state: State, folder: Path) -> str:
    """Write only ``folder/edit.json``; its hash."""
    from archtool.run.fingerprint import content_hash

    file = folder / "edit.json"
    file.write_text(json.dumps(list(state.edits), indent=1) + "\n", encoding="utf-8")
    return f"edits-{content_hash(file)}"


def replay(base: State, folder: Path) -> State:
    """The state that `save_edits` was called with, made again (lazily) from the state before its step."""
    from archtool.ir.codec import from_json
    from archtool.ir.edit import Edit
    from archtool.model.apply import apply
    from archtool.operators.registry import operator_class

    edits = json.loads((folder / "edit.json").read_text(encoding="utf-8"))
    checkpoint = base.checkpoint
    for data in edits[len(base.edits) :]:
        checkpoint = apply(checkpoint, from_json(Edit, data, operator_class, "edit"))
    return State(checkpoint=checkpoint, edits=tuple(edits))


def _facts(exported: Any, state: State) -> dict[str, Any]:
    """What the report says about the export."""
    from archtool.export.snippets import limits, load_snippet

    return {
        "dialect": exported.dialect,
        "reasons": [list(pair) for pair in exported.reasons],
        "notes": list(exported.notes),
        "load": load_snippet(exported.dialect, state.checkpoint.architecture),
        "limits": list(limits(exported.dialect)),
    }


def combined(hashes: dict[str, str]) -> str:
    """One hash for all weight files."""
    import hashlib

    return "sha256:" + hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()


def load_state(folder: Path) -> State:
    """Read both back, lazily."""
    from archtool.model.foreign import is_pruned_folder, open_folder
    from archtool.model.load import load

    edits = json.loads((folder / "edit.json").read_text(encoding="utf-8"))
    model = folder / "model"
    return State(checkpoint=open_folder(model) if is_pruned_folder(model) else load(model), edits=tuple(edits))


def finish(folder: Path) -> None:
    """Compare the written model in a fresh process, then write the report and the model card."""
    from archtool.report import model_card, write_report
    from archtool.run.report import build_report

    failure = verified(folder) if (folder / "verify.json").is_file() else None
    report = build_report(folder)
    write_report(report, folder, plugin_panels())
    if (folder / "model").is_dir():
        (folder / "model" / "README.md").write_text(model_card(report), encoding="utf-8")
    if failure is not None:
        raise failure


def plugin_panels() -> list[Any]:
    """Report panels that installed packages add."""
    from archtool.registry import entries

    return [entry.load() for entry in entries("report_panels").values()]


def verified(folder: Path) -> Exception | None:
    """Write ``verified.json``; the mismatch, if there is one, comes back so that the report is still written."""
    from archtool.errors import MismatchError
    from archtool.export.verify import verify_all

    found = verify_all([folder])[folder]
    (folder / "verified.json").write_text(json.dumps([asdict(v) for v in found], indent=1) + "\n", encoding="utf-8")
    bad = [v for v in found if not v.passed]
    if not bad:
        return None
    why = bad[0].error or f"differs by {bad[0].max_abs_diff:.3g} (tolerance {bad[0].tolerance:g})"
    return MismatchError(
        f"the written model, loaded by {bad[0].runtime}: {why}", "Do not use it; the report has details."
    )


HOOKS = Hooks(open_model, save_state, load_state, finish, save_edits, replay)
