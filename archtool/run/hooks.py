"""How the engine opens, writes and reads models, and what it does when a run is complete."""

from __future__ import annotations

import json
from pathlib import Path

from archtool.config.recipe import Recipe
from archtool.run.persist import Hooks
from archtool.run.step import State


def open_model(recipe: Recipe) -> State:
    """The first state of a recipe."""
    from archtool.run.inputs import open_checkpoint

    return State(checkpoint=open_checkpoint(recipe))


def save_state(state: State, folder: Path) -> str:
    """Write ``folder/model`` in the first exact dialect and ``folder/edit.json``; the hash of the weights."""
    from archtool.model.save import save

    model = folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    written = save(state.checkpoint, model)
    (folder / "edit.json").write_text(json.dumps(list(state.edits), indent=1) + "\n", encoding="utf-8")
    return combined({name: file.sha256 for name, file in written.items()})


def combined(hashes: dict[str, str]) -> str:
    """One hash for all weight files."""
    import hashlib

    return "sha256:" + hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()


def load_state(folder: Path) -> State:
    """Read both back, lazily."""
    from archtool.model.load import load

    edits = json.loads((folder / "edit.json").read_text(encoding="utf-8"))
    return State(checkpoint=load(folder / "model"), edits=tuple(edits))


def finish(folder: Path) -> None:
    """Write the report."""


HOOKS = Hooks(open_model, save_state, load_state, finish)
