"""The Python API: one function per verb, on the same engine as the command line.

    from archtool import api

    result = api.prune("my-model", budget="params=0.5x", data="digits/", out="smaller")
    result.metrics["parameters"], result.folder

Options are those of the command (``archtool prune --help``), with underscores; recipe fields (``task``, ``data``,
``seed``, ``threads``, ``protect``, ...) go by the same names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint
    from archtool.run.engine import RunResult


def run(
    recipe: str | Path | Mapping[str, Any], out: str | Path | None = None, *, resume: bool = True,
    force: bool = False, progress: Progress = SILENT,
) -> RunResult:  # fmt: skip
    """Run a recipe (file, shipped name or mapping) and return its metrics, records and folder.

    Raises:
        ArchtoolError: whatever is wrong with the recipe, its inputs or the folder.
        QualityError: a gate of ``require`` failed; the result is kept.
    """
    from archtool.config.gates import check_gates
    from archtool.run.engine import RunSettings, run_recipe
    from archtool.run.hooks import HOOKS
    from archtool.run.processes import is_main

    read = _recipe(recipe)
    settings = RunSettings(resume=resume, force=force, progress=progress)
    result = run_recipe(read, HOOKS, out=Path(out) if out is not None else None, settings=settings)
    if is_main():
        check_gates(read.require, result.metrics)
    return result


def _recipe(recipe: str | Path | Mapping[str, Any]) -> Any:
    import yaml

    from archtool.config.document import parse_yaml
    from archtool.config.load import check_recipe, read_recipe
    from archtool.config.shipped import find_recipe

    if isinstance(recipe, str | Path):
        return read_recipe(find_recipe(str(recipe)))
    text = yaml.safe_dump(dict(recipe), sort_keys=False)
    return check_recipe(parse_yaml(text, Path("recipe")), Path())


def verb(name: str, model: str | Path, out: str | Path | None = None, **options: Any) -> RunResult:
    """Run one step on a model; ``options`` are the step's and the recipe's, told apart by name."""
    from archtool.config.recipe import Recipe

    own = {"resume", "force", "progress"}
    settings = {key: options.pop(key) for key in own & options.keys()}
    shared = {key: options.pop(key) for key in list(options) if key in Recipe.model_fields}
    source: Any = {"path": str(model), "names": str(shared.pop("names"))} if "names" in shared else str(model)
    recipe = {"model": source, **_plain(shared), "steps": [{name: _plain(options)}]}
    return run(recipe, out, **settings)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v for k, v in values.items()}


def build(
    preset: str | Mapping[str, Any], out: str | Path | None = None, *, seed: int = 0,
    settings: Mapping[str, Any] | None = None, force: bool = False,
) -> Checkpoint:  # fmt: skip
    """``archtool build``: a published architecture with random weights, written to ``out`` where that is given.

    Raises:
        RecipeError: mistakes in the preset, or another number of parameters than it states.
    """
    from archtool.config.preset import build_model
    from archtool.export.model import export_model

    checkpoint = build_model(preset, seed, [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()])
    if out is not None:
        export_model(checkpoint, Path(out), force=force)
    return checkpoint


def evaluate(model: str | Path, **options: Any) -> RunResult:
    """``archtool eval``: measure a model's quality on ``data``."""
    return verb("eval", model, **options)


def bench(model: str | Path, **options: Any) -> RunResult:
    """``archtool bench``: measure latency."""
    return verb("bench", model, **options)


def train(model: str | Path, **options: Any) -> RunResult:
    """``archtool train``: train a model on ``data``."""
    return verb("train", model, **options)


def teach(model: str | Path, **options: Any) -> RunResult:
    """``archtool teach``: store what a teacher says of ``data``."""
    return verb("teach", model, **options)


def prune(model: str | Path, **options: Any) -> RunResult:
    """``archtool prune``: make a checkpoint structurally smaller."""
    return verb("prune", model, **options)


def quantize(model: str | Path, **options: Any) -> RunResult:
    """``archtool quantize``: make a checkpoint's numbers smaller."""
    return verb("quantize", model, **options)


def fold(model: str | Path, **options: Any) -> RunResult:
    """``archtool fold``: make norms part of the weights beside them."""
    return verb("fold", model, **options)


def nest(model: str | Path, **options: Any) -> RunResult:
    """``archtool nest``: turn a checkpoint into a nested one."""
    return verb("nest", model, **options)


def extract(model: str | Path, **options: Any) -> RunResult:
    """``archtool extract``: cut a submodel out of a nested checkpoint."""
    return verb("extract", model, **options)


def trim_vocabulary(model: str | Path, **options: Any) -> RunResult:
    """``archtool trim-vocabulary``: keep only the tokens of a corpus."""
    return verb("trim-vocabulary", model, **options)


def export(model: str | Path, **options: Any) -> RunResult:
    """``archtool export``: write a model so that other programs load it."""
    return verb("export", model, **options)
