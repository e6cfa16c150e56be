"""The texts that trimming counts: columns of tables, rows of saved data sets, and running text in large blocks.

A running text is cut only behind a line end before a line that begins with a word, where tokenizers cut too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from archtool.data.raw import Table, Text, strings
from archtool.data.sources import read
from archtool.data.spec import DataSpec
from archtool.errors import InputError

ROLES = ("text", "text_pair", "sentence1", "sentence2", "source", "target")
BLOCK = 1_000_000
_CUT = re.compile(r"(?<=\S\n)(?=\w)")


@dataclass(frozen=True)
class Coverage:
    """What a trimmed tokenizer makes of a corpus.

    Attributes:
        tokens: how many tokens the corpus had.
        kept: how many of them are tokens still.
        texts / identical: how many texts there are, and how many consist of kept tokens only.
        tokens_after: how many tokens the corpus has now.
    """

    tokens: int
    kept: int
    texts: int
    identical: int
    tokens_after: int


def corpus_texts(sources: Sequence[str], columns: Sequence[str] = (), header: str = "auto") -> list[str]:
    """All texts of the files.

    Raises:
        InputError: a file that is missing, unreadable, or holds no text; no such column.
    """
    found: list[str] = []
    for source in sources:
        raw = read(DataSpec(source, columns=tuple((f"column {c}", c) for c in columns), header=header)).raw
        if isinstance(raw, Text):
            found += blocks(raw.text)
        elif isinstance(raw, Table):
            found += [text for name in _columns(raw, columns) for text in strings(raw, "text", {"text": name})]
        else:
            raise InputError(f"{source}: holds no text", "Give text, or a table with a column of text.")
    texts = [text for text in found if text.strip()]
    if not texts:
        raise InputError(f"{', '.join(sources)}: no text in the corpus", "Give a file with text.")
    return texts


def _columns(table: Table, asked: Sequence[str]) -> list[str]:
    if asked:
        return [table.find("text", {"text": name}) or "" for name in asked]
    found = dict.fromkeys(name for role in ROLES if (name := table.find(role, {})))
    if not found:
        have = ", ".join(table.columns)
        raise InputError(f"{table.origin}: no column is known to hold text", f"State --text-columns; there are {have}.")
    return list(found)


def blocks(text: str, size: int = BLOCK) -> list[str]:
    """A text in pieces of about ``size`` characters."""
    made, begin = [], 0
    while begin < len(text):
        cut = _CUT.search(text, begin + size) if begin + size < len(text) else None
        end = cut.start() if cut else len(text)
        made.append(text[begin:end])
        begin = end
    return made


def counted(rows: Sequence[Sequence[int]]) -> Counter[int]:
    """Occurrences of each id."""
    found: Counter[int] = Counter()
    for row in rows:
        found.update(row)
    return found


def coverage(
    rows: Sequence[Sequence[int]], encode: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    texts: Sequence[str], new: dict[int, int], where: Path,
) -> Coverage:  # fmt: skip
    """Encode the corpus again and compare.

    Raises:
        InputError: a text whose tokens all stay is cut in another way (the tokenizer does more than its files say).
    """
    after = encode(texts)
    identical = 0
    for text, row, now in zip(texts, rows, after, strict=True):
        if all(i in new for i in row):
            identical += 1
            if [new[i] for i in row] != list(now):
                raise InputError(
                    f"the trimmed tokenizer of {where.name} cuts {text[:60]!r} differently, although its tokens stay",
                    "This tokenizer cannot be trimmed exactly.",
                )
    kept = sum(i in new for row in rows for i in row)
    return Coverage(sum(map(len, rows)), kept, len(texts), identical, sum(map(len, after)))


def survivors(rows: Sequence[Sequence[int]], new: dict[int, int], most: int, length: int) -> Iterator[list[int]]:
    """Up to ``most`` passages of at most ``length`` kept tokens, the longest of each text."""
    for _, row in zip(range(most), rows, strict=False):
        passages = (list(run) for stays, run in groupby(row, lambda i: i in new) if stays)
        longest = max(passages, key=len, default=[])
        if longest:
            yield longest[:length]
