"""Pairs of source and target text to what an encoder-decoder reads and must predict (teacher forcing).

The decoder is fed the start token and the target without its last token; ``next_ids`` is the target. Padding stands on
the right, where a causal decoder cannot see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from archtool.data.columns import Column, Ragged
from archtool.data.dataset import IGNORE, Data, Padding
from archtool.data.pair_tokenizers import open_pairs
from archtool.data.raw import Table, strings
from archtool.data.spec import DataSpec, PairPreprocess
from archtool.errors import UsageError


def encode_pairs(table: Table, spec: DataSpec, folder: Path | None) -> Data:
    """Ids of both sides; the spec's preprocessing is resolved."""
    import numpy as np

    stated = spec.preprocess if isinstance(spec.preprocess, PairPreprocess) else PairPreprocess()
    tokenizer = open_pairs(stated, folder)
    limit = stated.max_length or tokenizer.max_length
    if limit < 2:
        raise UsageError(f"max_length is {limit}", "give at least 2")
    mapping = dict(spec.columns)
    sources = [tokenizer.encode(stated.prefix + text) for text in strings(table, "source", mapping)]
    columns, targets = _source(sources, limit), dict[str, Column]()
    wanted = [tokenizer.encode_target(text) for text in strings(table, "target", mapping)] if spec.labelled else []
    if spec.labelled:
        predicted = [_cut(ids, limit) for ids in wanted]
        targets["next_ids"] = Ragged.of(predicted)
        columns["decoder_input_ids"] = Ragged.of([[tokenizer.start, *ids[:-1]] for ids in predicted])
    else:
        columns["decoder_input_ids"] = Ragged.of([[tokenizer.start]] * len(table))
    fill = {"input_ids": tokenizer.pad, "attention_mask": 0, "decoder_input_ids": tokenizer.pad, "next_ids": IGNORE}
    cut = sum(len(ids) > limit for ids in (*sources, *wanted))
    notes = (f"{cut} of {len(sources) + len(wanted)} texts cut at {limit} tokens",) if cut else ()
    resolved = replace(spec, preprocess=replace(stated, max_length=limit, start=tokenizer.start))
    rows = np.arange(len(table))
    return Data(resolved, spec.task, columns, targets, rows, Padding(fill), None, (), notes, tokenizer)


def _source(sources: Sequence[list[int]], limit: int) -> dict[str, Column]:
    rows = [_cut(ids, limit) for ids in sources]
    return {"input_ids": Ragged.of(rows), "attention_mask": Ragged.of([[1] * len(ids) for ids in rows])}


def _cut(ids: list[int], limit: int) -> list[int]:
    """At most ``limit`` ids; the last one, which ends the text, stays."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
