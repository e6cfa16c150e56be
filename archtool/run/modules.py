"""Modules of a user's Python file in a run: how they are written, read back and compared."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from archtool.config.load import split_name
from archtool.config.recipe import Recipe
from archtool.run.step import State

LOAD = """\
import sys

sys.path[:0] = ["model", {folder!r}]
from load_pruned import load_pruned
from {stem} import {function}

module = load_pruned({function}, "model")
"""


def is_module(recipe: Recipe) -> bool:
    """Whether the recipe's model is a module: ``FILE.py:FUNCTION``, or the folder of a pruned one."""
    from archtool.model.foreign import is_pruned_folder

    path = recipe.model.path if recipe.model is not None else None
    return path is not None and (bool(split_name(path)[1]) or is_pruned_folder(path))


def open_module(path: str) -> Any:
    """The module that a recipe names."""
    from archtool.model.foreign import Foreign, open_folder

    return Foreign(path) if split_name(path)[1] else open_folder(Path(path))


def save_module(state: State, folder: Path, verified_bytes: int) -> str:
    """Write ``folder/model``, and up to a size what a fresh process needs to repeat its outputs; the tensors' hash."""
    from archtool.model.foreign import WEIGHTS, save_foreign

    digest = save_foreign(state.checkpoint, folder / "model")
    if (folder / "model" / WEIGHTS).stat().st_size <= verified_bytes:
        record_module(state, folder)
    file, name = split_name(state.checkpoint.build)
    snippet = LOAD.format(folder=str(Path(file).resolve().parent), stem=Path(file).stem, function=name[1:])
    facts = {"dialect": "module", "reasons": [], "load": snippet, "limits": [], "notes": [
        f"The module is built by {file}, which has to be there; the folder holds tensors, shapes and a loader."
    ]}  # fmt: skip
    (folder / "export.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return digest


def record_module(state: State, folder: Path) -> None:
    """Keep the example inputs and the outputs in memory beside the model, for `archtool verify`."""
    from safetensors.torch import save_file

    from archtool.export.verify import TOLERANCE
    from archtool.transforms.modules.graph import run

    inputs = state.checkpoint.held[2]
    outputs = run(state.checkpoint.module(), inputs)
    tensors = {f"inputs.{k}": v for k, v in inputs.items()} | {f"outputs.{k}": v for k, v in outputs.items()}
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, folder / "verify.safetensors")
    facts = {
        "model": os.path.relpath(folder / "model", folder), "dialect": "module", "runtimes": ["module"],
        "tolerance": TOLERANCE, "seed": 0,
    }  # fmt: skip
    (folder / "verify.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
