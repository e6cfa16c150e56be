"""What data is used and how it is prepared, as plain data that a recipe can hold.

A `DataSpec` says where examples come from, which columns play which role, which split and how many of
them are taken, and how raw text, pixels or series become model inputs. Everything here is frozen,
hashable, and survives a JSON round trip; nothing here imports torch.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from archtool.errors import RecipeError, UsageError

SPLITS = ("train", "val", "test")
TASKS = ("image-classification", "text-classification", "similarity", "lm", "translation", "forecast")


@dataclass(frozen=True)
class TextPreprocess:
    """Sentences to token ids with a Hugging Face tokenizer.

    ``tokenizer`` is ``model`` (the model's own folder) or another folder. ``max_length`` counts special
    tokens; None asks the folder. ``padding`` is ``longest`` (of the batch) or ``max_length``.
    """

    tokenizer: str = "model"
    max_length: int | None = None
    padding: str = "longest"
    padding_side: str = "right"


@dataclass(frozen=True)
class ImagePreprocess:
    """Pixels in 0..255 to ``(pixels * rescale - mean) / std``, in this order: channels, resize, crop, scale.

    ``size`` is (height, width); ``shortest_edge`` keeps the aspect instead; ``crop`` is a centre crop
    (height, width); ``channels`` None keeps the source's. Empty ``mean``/``std`` mean 0 and 1.
    """

    size: tuple[int, int] | None = None
    shortest_edge: int | None = None
    crop: tuple[int, int] | None = None
    resample: str = "bilinear"
    channels: int | None = None
    rescale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class TokenPreprocess:
    """Raw text to windows of tokens for a language model.

    ``tokenizer`` is ``model``, ``bytes``, ``chars``, a folder, or a scored-BPE ``.bin`` file. ``length``
    tokens are fed per window and windows start every ``stride`` tokens (None: ``length``); with overlap,
    every token is scored once, with the longest context. A ``separator`` cuts the text into documents
    that are evaluated apart. ``bos`` None does what the tokenizer does by itself. ``vocabulary`` holds
    the characters of ``chars`` in id order (empty: the text's own, sorted).
    """

    tokenizer: str = "model"
    length: int = 256
    stride: int | None = None
    separator: str = ""
    bos: bool | None = None
    vocabulary: str = ""


@dataclass(frozen=True)
class PairPreprocess:
    """Source and target texts to token ids for an encoder-decoder.

    ``tokenizer`` is ``model`` (the model's own folder) or another folder. ``max_length`` counts special tokens and
    holds for both sides; None asks the folder. ``prefix`` stands before each source (T5: ``"translate English to
    German: "``). ``start`` is the id that decoding starts with; None asks the folder.
    """

    tokenizer: str = "model"
    max_length: int | None = None
    prefix: str = ""
    start: int | None = None


@dataclass(frozen=True)
class SeriesPreprocess:
    """A multivariate series to (past ``length``, next ``horizon``) windows, one every ``stride`` rows.

    Without ``length`` and ``horizon`` they are the model's; where there is none, `SERIES_LENGTH` and
    `SERIES_HORIZON`. ``borders`` are the ends (row numbers) of train, val and test; empty means the customary ones
    of the ETT files, else the fractions of the spec. ``standardise`` uses the train rows' mean and population
    standard deviation. The windows of val and test may look back across their border. ``drop_last`` leaves out the
    windows behind the last whole batch of this many, as published results on these sets often do. With
    ``time_features`` the date column is a further input (hour, weekday, day of the month and of the year, each from
    -0.5 to 0.5); models that read it ask for it themselves.
    """

    length: int | None = None
    horizon: int | None = None
    stride: int = 1
    borders: tuple[int, ...] = ()
    standardise: bool = True
    drop_last: int | None = None
    time_features: bool = False


SERIES_LENGTH, SERIES_HORIZON = 336, 96

Preprocess = TextPreprocess | ImagePreprocess | TokenPreprocess | PairPreprocess | SeriesPreprocess

PREPROCESS: Mapping[str, type[Preprocess]] = {
    "image-classification": ImagePreprocess,
    "text-classification": TextPreprocess,
    "similarity": TextPreprocess,
    "lm": TokenPreprocess,
    "translation": PairPreprocess,
    "forecast": SeriesPreprocess,
}


@dataclass(frozen=True)
class DataSpec:
    """Where examples come from and what is made of them.

    Args:
        source: a file, a folder, ``sklearn:digits``, or ``hub:NAME`` (``hub:NAME:CONFIG``).
        task: one of `TASKS`; empty means it is inferred from the source.
        columns: pairs (role, column of the source), e.g. ``(("text", "review"),)``.
        split: ``train``, ``val``, ``test``, or empty for all rows of a source without splits.
        fractions: shares of train, val and test where the source has no splits of its own.
        preprocess: how inputs are made; None means the task's defaults for the model.
        limit: at most this many examples, drawn with ``seed`` and kept in their order.
        labelled: False when the label column is absent or not wanted (calibration, agreement).
        classes: class names in id order; empty means sorted names, or the integers as they are.
        header: ``auto``, ``yes`` or ``no``, for csv and tsv.
        seed: of the split and of the limit.
    """

    source: str
    task: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    split: str = ""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    preprocess: Preprocess | None = None
    limit: int | None = None
    labelled: bool = True
    classes: tuple[str, ...] = ()
    header: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("task", self.task, ("", *TASKS))
        _one_of("split", self.split, ("", *SPLITS))
        _one_of("header", self.header, ("auto", "yes", "no"))
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"data limit is {self.limit}", "give a limit of at least 1, or none")
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise UsageError(f"split fractions {list(self.fractions)} do not sum to 1", "e.g. 0.8, 0.1, 0.1")
        expected = PREPROCESS.get(self.task)
        if self.preprocess is not None and expected and not isinstance(self.preprocess, expected):
            given = type(self.preprocess).__name__
            raise UsageError(f"task {self.task} takes {expected.__name__}, not {given}")

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values; `from_json` is its inverse."""
        out = asdict(self)
        out["columns"] = dict(self.columns)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in out.items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "DataSpec":
        """The spec of JSON values (also of a recipe's ``data`` section).

        Raises:
            RecipeError: unknown keys, or preprocessing without a task to say of which kind.
        """
        known = dict(values)
        _check_keys("data", known, DataSpec)
        known["columns"] = tuple(dict(known.get("columns") or {}).items())
        stated = known.get("preprocess")
        if stated is not None:
            known["preprocess"] = preprocess_from_json(str(known.get("task", "")), stated)
        return DataSpec(**{key: _tuples(value) for key, value in known.items()})


def preprocess_from_json(task: str, values: Mapping[str, Any]) -> Preprocess:
    """The preprocessing of a task from JSON values; unknown keys are a `RecipeError`."""
    if task not in PREPROCESS:
        raise RecipeError("data.preprocess needs data.task", f"task is one of {', '.join(TASKS)}")
    kind = PREPROCESS[task]
    _check_keys("data.preprocess", values, kind)
    return _checked(kind(**{key: _tuples(value) for key, value in values.items()}))


def override(preprocess: Preprocess, **changes: Any) -> Preprocess:
    """A copy with some fields changed; unknown names are a `RecipeError`."""
    _check_keys("data.preprocess", changes, type(preprocess))
    return _checked(replace(preprocess, **{key: _tuples(value) for key, value in changes.items()}))


def _checked(preprocess: Preprocess) -> Preprocess:
    """The same, if every value is of its field's type; else a `RecipeError`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        made: Preprocess = TypeAdapter(type(preprocess)).validate_python(asdict(preprocess))
    except ValidationError as problem:
        first = problem.errors()[0]
        what = f"data.preprocess.{'.'.join(map(str, first['loc'][:1]))} is {first['input']!r}"
        raise RecipeError(what, first["msg"]) from problem
    return made


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean X?`` for the nearest candidate, or nothing."""
    near = difflib.get_close_matches(name, list(candidates), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _check_keys(where: str, values: Mapping[str, Any], kind: type[Any]) -> None:
    names = [field.name for field in fields(kind)]
    for key in values:
        if key not in names:
            hint = f"the keys are {', '.join(names)}{did_you_mean(key, names)}"
            raise RecipeError(f"{where} has no key {key!r}", hint)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        shown = ", ".join(item for item in allowed if item)
        raise UsageError(f"data {name} {value!r} is not known", f"use one of {shown}{did_you_mean(value, allowed)}")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
