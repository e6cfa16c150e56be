"""From a recipe to what steps work on: the first checkpoint, data for evaluation, training and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.config.recipe import Recipe
from archtool.errors import UsageError

if TYPE_CHECKING:
    from archtool.data import Data, DataSpec, SeriesPreprocess
    from archtool.ir.architecture import Architecture
    from archtool.model.checkpoint import Checkpoint

EVALUATION_SPLIT = "test"
TRAINING = ("train", "recover", "nest", "teach", "extract")
"""Verbs that learn from data, so that what judges must be kept apart."""
DATA_FREE = ("magnitude", "random")
"""Criteria that look at no data; others calibrate on it."""


def open_checkpoint(recipe: Recipe) -> Any:
    """What the recipe names, lazily; None where it names no model.

    A checkpoint, a freshly initialised one for ``model: {build: …}``, or an `archtool.model.foreign.Foreign`.
    """
    if recipe.model is None:
        return None
    if recipe.model.build is not None:
        from archtool.config.preset import build_model

        return build_model(recipe.model.build, recipe.seed)
    if recipe.model.names is not None:
        from archtool.config.name_table import load_with_names

        return load_with_names(Path(str(recipe.model.path)), Path(recipe.model.names))
    from archtool.model.load import load
    from archtool.run.modules import is_module, open_module

    return open_module(str(recipe.model.path)) if is_module(recipe) else load(str(recipe.model.path))


def data_spec(recipe: Recipe, folder: Path | None) -> DataSpec:
    """The recipe's ``data`` section as a `DataSpec`."""
    from archtool.data import DataSpec
    from archtool.evaluate.registry import TASKS

    if not recipe.data or not _main(recipe.data):
        raise UsageError("this step needs data", "Give --data FILE (recipe: data: {path: …}).")
    values = {k: v for k, v in recipe.data.items() if k not in ("path", "train", "test", "preprocess")}
    info = TASKS.get(recipe.task or "")
    reads = info.data if info is not None else ()
    task = reads[0] if len(reads) == 1 else values.get("task", "")
    spec = DataSpec.from_json({**values, "source": _main(recipe.data), "task": task or ""})
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
    """What quality is judged on: ``data.test``, else the stated split, or ``test`` of what is also trained on."""
    stated = recipe.data or {}
    if stated.get("test"):
        return _load(recipe, checkpoint, str(stated["test"]), "")
    split = stated.get("split")
    if split is None:
        split = EVALUATION_SPLIT if _is_cut(recipe) and not stated.get("train") else ""
    return _load(recipe, checkpoint, _main(stated), str(split))


def training_data(recipe: Recipe, checkpoint: Checkpoint, split: str = "train") -> Data:
    """What a model is trained or calibrated on: ``data.train``, or a split that does not judge."""
    stated = recipe.data or {}
    if stated.get("train"):
        return _load(recipe, checkpoint, str(stated["train"]), "")
    return _load(recipe, checkpoint, _main(stated), split)


def _main(stated: Mapping[str, Any]) -> str:
    return str(stated.get("path") or stated.get("test") or stated.get("train") or "")


def _is_cut(recipe: Recipe) -> bool:
    """Whether the source is cut into splits: built-in sets and folders are; a single file when it also trains."""
    steps = zip(recipe.verbs, recipe.options, strict=True)
    trains = any(verb in TRAINING or options.get("criterion", DATA_FREE[0]) not in DATA_FREE for verb, options in steps)
    return trains or not Path(_main(recipe.data or {})).is_file()


def _load(recipe: Recipe, checkpoint: Checkpoint, source: str, split: str) -> Data:
    from archtool.data import load_data

    folder = checkpoint.source.folder
    spec = replace(data_spec(recipe, folder), source=source, split=split)
    return load_data(fitted(spec, checkpoint), folder)


def fitted(spec: DataSpec, checkpoint: Checkpoint) -> DataSpec:
    """Preprocessing that the architecture asks for where neither recipe nor folder states it."""
    from archtool.data import PairPreprocess, SeriesPreprocess, TokenPreprocess, default_preprocess

    arch = checkpoint.architecture
    if not spec.task and "forecast" in dict(arch.outputs):
        spec = replace(spec, task="forecast")
    if spec.task == "translation" and (spec.preprocess is None or isinstance(spec.preprocess, PairPreprocess)):
        pairs, most = spec.preprocess or PairPreprocess(), int(arch.fact.get("max_positions", 0))
        return replace(spec, preprocess=replace(pairs, max_length=pairs.max_length or most or None))
    if isinstance(spec.preprocess, SeriesPreprocess):
        return replace(spec, preprocess=_windows_of(spec.preprocess, arch))
    if spec.preprocess is not None or not spec.task:
        return spec
    preprocess = default_preprocess(spec.task, checkpoint.source.folder)
    if isinstance(preprocess, SeriesPreprocess):
        preprocess = _windows_of(preprocess, arch)
    if isinstance(preprocess, TokenPreprocess):
        longest = int(arch.fact.get("max_positions", preprocess.length))
        own = str(checkpoint.source.tokenizer or preprocess.tokenizer)
        preprocess = replace(preprocess, length=min(preprocess.length, longest), tokenizer=own)
    return replace(spec, preprocess=preprocess)


def _windows_of(stated: SeriesPreprocess, arch: Architecture) -> SeriesPreprocess:
    """Windows of the rows that the model reads and forecasts, where the recipe leaves them open."""
    from archtool.ir.feeds import leaving

    past = arch.fact.get("series_length")
    future = leaving(arch, "forecast").tokens if "forecast" in dict(arch.outputs) else None
    return replace(
        stated, length=stated.length or (None if past is None else int(past)), horizon=stated.horizon or future,
        time_features=stated.time_features or "past_time_features" in arch.inputs,
    )  # fmt: skip


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
