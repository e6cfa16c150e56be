"""One JSON object per line."""

import json
from pathlib import Path
from typing import Any

from archtool.data.raw import Table
from archtool.data.spec import DataSpec
from archtool.errors import InputError, Where


def read_jsonl(path: Path, spec: DataSpec) -> Table:
    """The table of a jsonl file; every line must have the first line's keys.

    Raises:
        InputError: no rows, a line that is not a JSON object, or a line without one of the keys.
    """
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                rows.append(_object(path, line, text))
                lines.append(line)
    if not rows:
        raise InputError(f"{path}: no rows", "the file is empty")
    for line, row in zip(lines, rows, strict=True):
        absent = [key for key in rows[0] if key not in row]
        if absent:
            what = f"{path}, line {line}: no {', '.join(map(repr, absent))}, which line {lines[0]} has"
            raise InputError(what, "give every line the same keys (null where unknown)", Where(path, line, 1))
    return Table(path, {key: [row[key] for row in rows] for key in rows[0]}, lines)


def _object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = Where(path, line, error.colno, text.rstrip("\n"))
        raise InputError(f"{path}, line {line}: not JSON ({error.msg})", "one object per line", place) from error
    if not isinstance(value, dict):
        raise InputError(f"{path}, line {line}: not a JSON object", "one object per line", Where(path, line, 1))
    return value
