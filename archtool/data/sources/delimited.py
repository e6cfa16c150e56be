"""csv (RFC 4180 quotes) and tsv (no quoting, as GLUE writes it), with or without a header.

A headerless file gets the column names ``0``, ``1``, ... unless it is a known table: two texts and a
number are STS-B's ``sentence1, sentence2, score``.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from archtool.data.raw import ALIASES, Table
from archtool.data.spec import DataSpec
from archtool.errors import InputError, Where

Row = tuple[int, list[str]]


def read_delimited(path: Path, spec: DataSpec) -> Table:
    """The table of a csv or tsv file.

    Raises:
        InputError: no rows, a row with another number of cells, or text that is not UTF-8.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path}: no rows", "the file is empty")
    named = spec.header == "yes" or (spec.header == "auto" and has_header(rows[0][1], spec))
    names = rows[0][1] if named else _names(rows[0][1])
    body = rows[1:] if named else rows
    if not body:
        raise InputError(f"{path}: no rows", "there is a header and nothing below it")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name: {', '.join(names)}", "rename one")
    for line, cells in body:
        if len(cells) != len(names):
            what = f"{path}, line {line}: {len(cells)} cells where the first row has {len(names)}"
            raise InputError(what, "check quotes and separators", Where(path, line, 1, ",".join(cells)))
    columns = {name: [cells[place] for _, cells in body] for place, name in enumerate(names)}
    return Table(path, columns, [line for line, _ in body])


def has_header(cells: list[str], spec: DataSpec) -> bool:
    """Whether a first row names columns: by a mapped or customary name, or without number or sentence.

    Columns that are mapped by position say that there is no header.
    """
    if any(name.isdigit() for _, name in spec.columns):
        return False
    lowered = {cell.strip().lower() for cell in cells}
    known = set(itertools.chain.from_iterable(ALIASES.values())) | {name.lower() for _, name in spec.columns}
    if lowered & known:
        return True
    return all(cell and not _is_number(cell) and len(cell.split()) <= 3 for cell in cells)


def _names(cells: list[str]) -> list[str]:
    texts = [not _is_number(cell) for cell in cells]
    if texts == [True, True, False]:
        return ["sentence1", "sentence2", "score"]
    return [str(place) for place in range(len(cells))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _rows(path: Path) -> Iterator[Row]:
    """Rows that are not blank, with the line each begins on."""
    tabs = path.suffix.lower() == ".tsv"
    begin = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        if tabs:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield begin, cells
                begin = reader.line_num + 1
        except csv.Error as error:
            what = f"{path}, line {begin}: {error}"
            raise InputError(what, "check the quotes; jsonl takes any text", Where(path, begin, 1)) from error
