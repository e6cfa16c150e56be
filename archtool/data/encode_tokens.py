"""Texts to windows of token ids for a language model.

A window feeds ``length`` ids. With ``stride < length`` windows overlap and a target is scored only in the
first window that reaches it, so every token after the first of its stream is scored exactly once. No
attention mask is given: padding stands on the right, where a causal model cannot see it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from archtool.data.columns import Column, Ragged
from archtool.data.dataset import IGNORE, Data, Padding
from archtool.data.raw import Table, Text, strings
from archtool.data.scored_bpe import ScoredBPE
from archtool.data.spec import DataSpec, TokenPreprocess
from archtool.data.split import bounds, split_rows
from archtool.data.tokenizers import CharTokenizer, Tokenizer, open_tokenizer
from archtool.errors import InputError, UsageError


class Window(NamedTuple):
    """Fed ids and, at each position, the id to predict (or `IGNORE`)."""

    ids: list[int]
    next_ids: list[int]


def encode_tokens(
    raw: Text | Table,
    spec: DataSpec,
    split: str,
    fractions: tuple[float, float, float],
    folder: Path | None,
) -> Data:
    """Windows of the wanted split.

    A running text is cut into splits in its order; documents are split by the seed. Documents (of a
    separator, or the rows of a table) are windowed apart.

    Raises:
        InputError: a split or text with fewer than two tokens.
    """
    import numpy as np

    stated = spec.preprocess if isinstance(spec.preprocess, TokenPreprocess) else TokenPreprocess()
    length, stride = _sizes(stated)
    whole, documents = _documents(raw, spec, stated, split, fractions)
    tokenizer = open_tokenizer(stated, folder, whole)
    streams = [tokenizer.encode(document, stated.bos) for document in documents]
    windows = [window for stream in streams for window in cut(stream, length, stride)]
    if not windows:
        raise InputError(f"{raw.origin}: no rows (no text of two tokens or more)", "give more text")
    short = sum(len(stream) < 2 for stream in streams)
    notes = (f"{short} of {len(streams)} documents have no token to predict",) if short else ()
    columns: dict[str, Column] = {"input_ids": Ragged.of([window.ids for window in windows])}
    targets: dict[str, Column] = {"next_ids": Ragged.of([window.next_ids for window in windows])}
    resolved = replace(spec, preprocess=_resolve(stated, stride, tokenizer))
    padding = Padding({"input_ids": 0, "next_ids": IGNORE})
    rows = np.arange(len(windows))
    return Data(resolved, "lm", columns, targets, rows, padding, None, (), notes, tokenizer)


def cut(stream: Sequence[int], length: int, stride: int) -> list[Window]:
    """Windows of one stream; the last may be shorter, and each target is scored once."""
    windows = []
    scored = 1  # targets before this place are done
    for begin in range(0, len(stream) - 1, stride):
        end = min(begin + length, len(stream) - 1)
        following = list(stream[begin + 1 : end + 1])
        following[: scored - begin - 1] = [IGNORE] * (scored - begin - 1)
        windows.append(Window(list(stream[begin:end]), following))
        scored = end + 1
        if end == len(stream) - 1:
            break
    return windows


def _documents(
    raw: Text | Table,
    spec: DataSpec,
    stated: TokenPreprocess,
    split: str,
    fractions: tuple[float, float, float],
) -> tuple[str, list[str]]:
    """The whole text (for a vocabulary) and the documents of the split."""
    if isinstance(raw, Text) and not stated.separator:
        if not split:
            return raw.text, [raw.text]
        begin, end = bounds(len(raw.text), split, fractions)
        return raw.text, [raw.text[begin:end]]
    if isinstance(raw, Text):
        pieces = (piece.strip() for piece in raw.text.split(stated.separator))
        documents = [piece for piece in pieces if piece]
    else:
        documents = strings(raw, "text", dict(spec.columns))
    rows = split_rows(len(documents), split, fractions, spec.seed)
    return "".join(documents), [documents[int(row)] for row in rows]


def _sizes(stated: TokenPreprocess) -> tuple[int, int]:
    stride = stated.length if stated.stride is None else stated.stride
    if not 1 <= stride <= stated.length:
        what = f"windows of length {stated.length} every {stride} tokens"
        raise UsageError(what, "length is at least 1 and stride from 1 to length, or tokens would be left out")
    return stated.length, stride


def _resolve(stated: TokenPreprocess, stride: int, tokenizer: Tokenizer) -> TokenPreprocess:
    vocabulary = tokenizer.vocabulary if isinstance(tokenizer, CharTokenizer) else ""
    bos = stated.bos if stated.bos is not None or not isinstance(tokenizer, ScoredBPE) else True
    return replace(stated, stride=stride, vocabulary=vocabulary, bos=bos)
