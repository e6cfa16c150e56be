"""Sentences and sentence pairs to token ids, for classification and similarity."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archtool.data.columns import Column, Dense, Ragged
from archtool.data.dataset import Data, Padding, Pairs
from archtool.data.labels import class_ids
from archtool.data.raw import Table, numbers, strings
from archtool.data.spec import DataSpec, TextPreprocess
from archtool.data.tokenizers import FolderTokenizer, load_folder_tokenizer
from archtool.errors import UsageError

FALLBACK_LENGTH = 512


def encode_classification(table: Table, spec: DataSpec, folder: Path | None) -> Data:
    """Texts (or pairs of texts) and class ids; the spec's preprocessing is resolved."""
    import numpy as np

    mapping = dict(spec.columns)
    role = "text" if table.find("text", mapping) or not table.find("sentence1", mapping) else "sentence1"
    partner = {"text": "text_pair", "sentence1": "sentence2"}[role]
    second = strings(table, partner, mapping) if table.find(partner, mapping) else None
    inputs, padding, tokenizer, resolved, notes = tokenize(strings(table, role, mapping), second, spec, folder)
    targets: dict[str, Column] = {}
    if spec.labelled:
        ids, names = class_ids(table, spec)
        targets["labels"] = Dense(ids)
        resolved = replace(resolved, classes=names)
    rows = np.arange(len(table))
    return Data(resolved, spec.task, inputs, targets, rows, padding, None, resolved.classes, notes, tokenizer)


def encode_similarity(table: Table, spec: DataSpec, folder: Path | None) -> Data:
    """Distinct sentences, and pairs of them with gold scores (zeros where unlabelled)."""
    import numpy as np

    mapping = dict(spec.columns)
    first, second = strings(table, "sentence1", mapping), strings(table, "sentence2", mapping)
    scores = numbers(table, "score", mapping) if spec.labelled else [0.0] * len(table)
    place: dict[str, int] = {}
    for sentence in (*first, *second):
        place.setdefault(sentence, len(place))
    rows_P2 = np.asarray([[place[a], place[b]] for a, b in zip(first, second, strict=True)], dtype=np.int64)
    inputs, padding, tokenizer, resolved, notes = tokenize(list(place), None, spec, folder)
    pairs = Pairs(rows_P2, np.asarray(scores, dtype=np.float64))
    rows = np.arange(len(place))
    return Data(resolved, spec.task, inputs, {}, rows, padding, pairs, (), notes, tokenizer)


def tokenize(
    texts: Sequence[str], second: Sequence[str] | None, spec: DataSpec, folder: Path | None
) -> tuple[Mapping[str, Column], Padding, FolderTokenizer, DataSpec, tuple[str, ...]]:
    """Ragged columns of ids, their padding, the tokenizer, the resolved spec, and what was cut."""
    stated = spec.preprocess if isinstance(spec.preprocess, TextPreprocess) else TextPreprocess()
    _check(stated)
    inner = load_folder_tokenizer(stated.tokenizer, folder)
    place = folder if stated.tokenizer == "model" else Path(stated.tokenizer)
    max_length = stated.max_length or default_max_length(place, inner)
    encoded = inner(
        list(texts), list(second) if second else None, truncation=True, max_length=max_length, padding=False
    )
    columns: dict[str, Column] = {name: Ragged.of(encoded[name]) for name in encoded}
    fill = {name: 0 for name in columns} | {"input_ids": pad_id(inner)}
    full = max_length if stated.padding == "max_length" else None
    resolved = replace(spec, preprocess=replace(stated, max_length=max_length))
    notes = _cut(encoded, max_length, len(texts))
    return columns, Padding(fill, stated.padding_side, full), FolderTokenizer(inner), resolved, notes


def default_max_length(folder: Path | None, inner: Any) -> int:
    """sentence-transformers' ``max_seq_length``, else the tokenizer's limit, else 512."""
    file = folder / "sentence_bert_config.json" if folder else None
    if file and file.is_file():
        stated = json.loads(file.read_text(encoding="utf-8")).get("max_seq_length")
        if stated:
            return int(stated)
    limit = int(inner.model_max_length)
    return limit if limit <= 1_000_000 else FALLBACK_LENGTH


def _check(stated: TextPreprocess) -> None:
    if stated.padding not in ("longest", "max_length"):
        raise UsageError(f"no padding {stated.padding!r}", "use longest or max_length")
    if stated.padding_side not in ("left", "right"):
        raise UsageError(f"no padding side {stated.padding_side!r}", "use left or right")
    if stated.max_length is not None and stated.max_length < 1:
        raise UsageError(f"max_length is {stated.max_length}", "give at least 1")


def pad_id(inner: Any) -> int:
    """The padding id; any id serves where the tokenizer has none, since padding is masked."""
    return int(next((i for i in (inner.pad_token_id, inner.eos_token_id) if i is not None), 0))


def _cut(encoded: Any, max_length: int, count: int) -> tuple[str, ...]:
    if encoded.encodings:
        cut = sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        return (f"{cut} of {count} texts cut at {max_length} tokens",) if cut else ()
    full = sum(len(ids) == max_length for ids in encoded["input_ids"])
    return (f"{full} of {count} texts fill or exceed {max_length} tokens",) if full else ()
