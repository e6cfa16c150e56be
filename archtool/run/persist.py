"""Keeping the state between steps on disk, so that a killed run continues where it was.

After each step, ``.work/<i>-<verb>/`` holds ``state.json`` (metrics, records, and which folder holds the
model) and, when the step changed the model, what the `Hooks` wrote: ``model/`` and the edit. The folder is
written under another name and renamed, then the journal line is added: a step counts once that line exists.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.run.folder import RunDir, write_json
from archtool.run.step import State

if TYPE_CHECKING:
    from archtool.config.recipe import Recipe

INPUT = "input"


@dataclass(frozen=True)
class Hooks:
    """How the engine reads and writes models, which it knows nothing about.

    Attributes:
        open_model: the first state of a recipe (its checkpoint is None when the recipe names no model).
        save_state: write the checkpoint to ``folder/model``, the edits beside it; returns the content hash.
        load_state: read both back from such a folder, lazily; metrics and records are not its business.
        finish: called with the complete run directory at the end, for example to render the report.
        save_edits: write only the edits of a derived state beside where the model would be; returns their hash.
        replay: the state that ``save_edits`` wrote into a folder, from the state before that step; None: every
            changed model is written.
    """

    open_model: Callable[["Recipe"], State]
    save_state: Callable[[State, Path], str]
    load_state: Callable[[Path], State]
    finish: Callable[[Path], None] = lambda folder: None
    save_edits: Callable[[State, Path], str] = lambda state, folder: ""
    replay: Callable[[State, Path], State] | None = None


@dataclass(frozen=True)
class Saved:
    """A state that is on disk: which folder holds its model and its parent's (or 'input')."""

    state: State
    model: str | None
    parent: str | None
    hash: str = ""


def start(hooks: Hooks, recipe: "Recipe") -> Saved:
    """The state before the first step."""
    state = hooks.open_model(recipe)
    state = replace(state, parent=state.checkpoint)
    name = INPUT if state.checkpoint is not None else None
    return Saved(state, name, name)


def save(
    hooks: Hooks, folder: RunDir, name: str, first: Saved, before: Saved, after: State, last: bool = True
) -> Saved:
    """Persist the state that step ``name`` returned, and hand it back as read from disk.

    ``first`` is the state before all steps, ``before`` the one this step got; ``last``: no later step makes a
    model, so that this one must be whole.
    """
    changed = after.checkpoint is not before.state.checkpoint or after.edits != before.state.edits
    derived = hooks.replay is not None and not last and after.derived is after.checkpoint
    own = after.checkpoint is not None and (changed or (last and _is_replayed(folder, before.model)))
    target, temporary = folder.work / name, folder.work / f"{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    model = name if own else before.model
    said: dict[str, Any] = {"metrics": dict(after.metrics), "records": dict(after.records), "model": model}
    said["parent"] = parent = _parent(before, after, name)
    if own and derived:
        said["base"] = before.model
    try:
        written = (hooks.save_edits if derived else hooks.save_state)(after, temporary) if own else ""
        write_json(temporary / "state.json", said | {"hash": written or before.hash})
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    if model != name:
        return Saved(after, model, parent, before.hash)
    return _loaded(hooks, folder, name, first)


def _is_replayed(folder: RunDir, name: str | None) -> bool:
    """Whether a step's folder holds edits only."""
    return name is not None and name != INPUT and "base" in facts(folder, name)


def restore(hooks: Hooks, folder: RunDir, name: str, first: Saved) -> Saved:
    """The state after step ``name`` of an earlier process; ``first`` is the state before all steps."""
    return _loaded(hooks, folder, name, first)


def facts(folder: RunDir, name: str) -> dict[str, Any]:
    """What ``state.json`` of a finished step says."""
    found: dict[str, Any] = json.loads((folder.work / name / "state.json").read_text(encoding="utf-8"))
    return found


def needed(folder: RunDir, saved: Saved) -> set[str]:
    """The folders of ``.work`` that a resume after this state reads."""
    found: set[str] = set()
    for name in (saved.model, saved.parent):
        while name is not None and name != INPUT:
            found.add(name)
            name = facts(folder, name).get("base")
    return found


def _parent(before: Saved, after: State, name: str) -> str | None:
    if after.parent is None:
        return None
    if after.parent is after.checkpoint:
        return name if after.checkpoint is not before.state.checkpoint else before.model
    if after.parent is before.state.checkpoint:
        return before.model
    if after.parent is before.state.parent:
        return before.parent
    raise ValueError("a step's parent must be its input's parent, its input, or its own result")


def _loaded(hooks: Hooks, folder: RunDir, name: str, first: Saved) -> Saved:
    """Read a finished step back."""
    found = facts(folder, name)
    model, parent = found["model"], found["parent"]
    base = _state(hooks, folder, model, first)
    other = base if parent == model else _state(hooks, folder, parent, first)
    state = replace(base, parent=other.checkpoint, metrics=found["metrics"], records=found["records"])
    return Saved(state, model, parent, found["hash"])


def _state(hooks: Hooks, folder: RunDir, name: str | None, first: Saved) -> State:
    if name is None:
        return State()
    if name == INPUT:
        return first.state
    if hooks.replay is None or not _is_replayed(folder, name):
        return hooks.load_state(folder.work / name)
    return hooks.replay(_state(hooks, folder, facts(folder, name)["base"], first), folder.work / name)
