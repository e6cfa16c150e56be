"""Writing results: JSON alone on stdout, or a readable form; everything else goes to stderr."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer


def emit(text: str) -> None:
    """Write a result to stdout; ends the command quietly when nobody reads it any more."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def emit_json(data: Any) -> None:
    """Write a result as JSON."""
    emit(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table with aligned columns; the last column is as long as it is."""
    every = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(columns) - 1)]
    for row in every:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        emit("  ".join([*cells, row[-1]]).rstrip())


def note(message: str) -> None:
    """One line for the user on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
