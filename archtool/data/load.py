"""`load_data`: a spec to encoded examples."""

from dataclasses import replace
from pathlib import Path

from archtool.data.dataset import Data
from archtool.data.encode_images import encode_images, read_processor
from archtool.data.encode_pairs import encode_pairs
from archtool.data.encode_series import encode_series
from archtool.data.encode_text import encode_classification, encode_similarity
from archtool.data.encode_tokens import encode_tokens
from archtool.data.raw import Images, Raw, Table, Text
from archtool.data.sources import Reading, read
from archtool.data.spec import PREPROCESS, DataSpec, Preprocess
from archtool.data.split import limit_rows, split_rows
from archtool.errors import InputError, UsageError


def load_data(spec: DataSpec, model_folder: Path | None = None) -> Data:
    """Read, split, limit and encode.

    Args:
        spec: what to load; what it leaves open is resolved and stated in ``Data.spec``.
        model_folder: where the tokenizer or ``preprocessor_config.json`` of the model lies.

    Raises:
        InputError: data that is missing, unreadable, empty, or has wrong columns or values.
        UsageError: a split that is not there, or settings that contradict each other.
    """
    reading = read(spec)
    spec = replace(spec, task=spec.task or infer_task(reading.raw, spec))
    raw = reading.raw
    if spec.task == "lm":
        return _limited(_encode_lm(reading, spec, model_folder), spec)
    if spec.task == "forecast":
        return _limited(_encode_forecast(reading, spec), spec)
    if spec.task == "image-classification":
        if not isinstance(raw, Images):
            raise _mismatch(raw, spec)
        data = encode_images(raw, spec, model_folder)
        data = data.select(split_rows(len(data), reading.split, reading.fractions, spec.seed))
        return _limited(_not_empty(data, spec), spec)
    if not isinstance(raw, Table):
        raise _mismatch(raw, spec)
    encode = {"similarity": encode_similarity, "translation": encode_pairs}.get(spec.task, encode_classification)
    return encode(_rows_of(raw, reading, spec), spec, model_folder)


def default_preprocess(task: str, model_folder: Path | None = None) -> Preprocess:
    """What a task does where a spec states nothing: for images, what the model's folder says."""
    return read_processor(model_folder) if task == "image-classification" else PREPROCESS[task]()


def infer_task(raw: Raw, spec: DataSpec) -> str:
    """The task that a source suggests; `UsageError` where nothing does."""
    if isinstance(raw, Images):
        return "image-classification"
    if isinstance(raw, Text):
        return "lm"
    mapping = dict(spec.columns)
    if raw.find("source", mapping) and raw.find("target", mapping):
        return "translation"
    scored, labelled = raw.find("score", mapping), raw.find("label", mapping)
    if raw.find("sentence1", mapping) and raw.find("sentence2", mapping) and scored and scored != labelled:
        return "similarity"
    if labelled and (raw.find("text", mapping) or raw.find("sentence1", mapping)):
        return "text-classification"
    if raw.find("date", mapping):
        return "forecast"
    if raw.find("text", mapping):
        return "lm"
    have = ", ".join(raw.columns)
    raise UsageError(f"{raw.origin}: cannot tell the task from the columns {have}", "state the task of the data")


def _encode_lm(reading: Reading, spec: DataSpec, folder: Path | None) -> Data:
    if isinstance(reading.raw, Images):
        raise _mismatch(reading.raw, spec)
    return encode_tokens(reading.raw, spec, reading.split, reading.fractions, folder)


def _encode_forecast(reading: Reading, spec: DataSpec) -> Data:
    if not isinstance(reading.raw, Table):
        raise _mismatch(reading.raw, spec)
    if spec.split and not reading.split:
        hint = "give one file with all rows in time order; the borders cut it"
        raise UsageError(f"{spec.source}: a series is not read from separate files per split", hint)
    return encode_series(reading.raw, spec, reading.split)


def _rows_of(table: Table, reading: Reading, spec: DataSpec) -> Table:
    rows = split_rows(len(table), reading.split, reading.fractions, spec.seed)
    if not len(rows):
        raise InputError(f"{spec.source}: no rows in split {spec.split}", "change the fractions")
    return table.select(rows[limit_rows(len(rows), spec.limit, spec.seed)])


def _limited(data: Data, spec: DataSpec) -> Data:
    return data.select(limit_rows(len(data), spec.limit, spec.seed))


def _not_empty(data: Data, spec: DataSpec) -> Data:
    if not len(data):
        raise InputError(f"{spec.source}: no rows in split {spec.split}", "change the fractions")
    return data


def _mismatch(raw: Raw, spec: DataSpec) -> InputError:
    holds = {Images: "images", Text: "running text", Table: "a table"}[type(raw)]
    return InputError(f"{raw.origin}: task {spec.task} cannot be read from {holds}", "check --task and --data")
