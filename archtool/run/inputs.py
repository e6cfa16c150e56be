"""From a recipe to what steps work on: the first checkpoint, data for evaluation, training and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.config.recipe import Recipe
from archtool.errors import UsageError

if TYPE_CHECKING:
    from archtool.data import Data, DataSpec
    from archtool.model.checkpoint import Checkpoint

EVALUATION_SPLIT = "test"


def open_checkpoint(recipe: Recipe) -> Checkpoint | None:
    """The checkpoint that the recipe names, lazily; a freshly initialised one for ``model: {build: …}``."""
    if recipe.model is None:
        return None
    if recipe.model.build is not None:
        from archtool.config.preset import build_model

        return build_model(recipe.model.build, recipe.seed)
    if recipe.model.names is not None:
        from archtool.config.name_table import load_with_names

        return load_with_names(Path(str(recipe.model.path)), Path(recipe.model.names))
    from archtool.model.load import load

    return load(str(recipe.model.path))


def data_spec(recipe: Recipe, folder: Path | None, defaults: Mapping[str, Any]) -> DataSpec:
    """The recipe's ``data`` section as a `DataSpec`; ``defaults`` fill what it leaves open."""
    from archtool.data import DataSpec
    from archtool.evaluate.registry import TASKS

    if not recipe.data or not recipe.data.get("path"):
        raise UsageError("this step needs data", "Give --data FILE (recipe: data: {path: …}).")
    values = {k: v for k, v in recipe.data.items() if k not in ("path", "preprocess")}
    task = recipe.task if recipe.task in TASKS and recipe.task != "agreement" else values.get("task", "")
    given = {**defaults, **values, "source": str(recipe.data["path"]), "task": task or ""}
    spec = DataSpec.from_json(given)
    return _with_preprocess(spec, recipe.data.get("preprocess"), folder)


def _with_preprocess(spec: DataSpec, stated: Mapping[str, Any] | None, folder: Path | None) -> DataSpec:
    """The stated settings over the defaults of the task and of the model's folder."""
    from archtool.data import default_preprocess, override

    if not stated:
        return spec
    if not spec.task:
        hint = "Say of which kind the data is: --set data.task=lm (recipe: data: {task: lm})."
        raise UsageError("data.preprocess needs a task", hint)
    return replace(spec, preprocess=override(default_preprocess(spec.task, folder), **dict(stated)))


def evaluation_data(recipe: Recipe, checkpoint: Checkpoint) -> Data:
    """What quality is judged on: the split that the recipe states, else ``test`` where there is one."""
    return _load(recipe, checkpoint, str((recipe.data or {}).get("split", "")) or EVALUATION_SPLIT)


def training_data(recipe: Recipe, checkpoint: Checkpoint, split: str = "train") -> Data:
    """What a model is trained or calibrated on; never the split that judges."""
    return _load(recipe, checkpoint, split)


def _load(recipe: Recipe, checkpoint: Checkpoint, split: str) -> Data:
    from archtool.data import load_data

    folder = checkpoint.source.folder
    stated = (recipe.data or {}).get("split")
    spec = data_spec(recipe, folder, {})
    if stated is None and not _has_splits(spec.source) and split == EVALUATION_SPLIT:
        split = ""
    return load_data(fitted(replace(spec, split=split), checkpoint), folder)


def _has_splits(source: str) -> bool:
    """Whether a source is cut into splits: built-in sets and folders are, a single file is one split."""
    return not Path(source).is_file()


def fitted(spec: DataSpec, checkpoint: Checkpoint) -> DataSpec:
    """Preprocessing that the architecture asks for where neither recipe nor folder states it."""
    from archtool.data import TokenPreprocess, default_preprocess

    if spec.preprocess is not None or not spec.task:
        return spec
    preprocess = default_preprocess(spec.task, checkpoint.source.folder)
    arch = checkpoint.architecture
    if isinstance(preprocess, TokenPreprocess):
        longest = int(arch.fact.get("max_positions", preprocess.length))
        own = str(checkpoint.source.tokenizer or preprocess.tokenizer)
        preprocess = replace(preprocess, length=min(preprocess.length, longest), tokenizer=own)
    return replace(spec, preprocess=preprocess)


def pooling_of(checkpoint: Checkpoint) -> Any:
    """How sentence embeddings are pooled, as the model's folder says; None: mean, normalised."""
    from archtool.checkpoint.folder import pooling
    from archtool.errors import InputError
    from archtool.evaluate.pooling import Pooling

    stated = pooling(checkpoint.source.folder) if checkpoint.source.folder else None
    if stated is None:
        return None
    if stated.others:
        raise InputError(
            f"the sentence-transformers modules {', '.join(stated.others)} are not supported",
            "Use a model that only pools and normalises.",
        )
    return Pooling(stated.mode, stated.normalize)
