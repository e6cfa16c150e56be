"""The journal: one JSON line per finished unit of work, on disk before the engine goes on.

A crash can tear only the last line; reading skips it, and the next write cuts it off first.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """An append-only file of JSON objects."""

    path: Path

    def read(self) -> list[Record]:
        """All whole lines in order; a torn last line is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]
        return [record for line in lines if (record := _parse(line)) is not None]

    def append(self, record: Record) -> None:
        """Add one line and wait until it is on disk."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self.path.open("ab") as file:
            _cut_torn_line(self.path)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def events(self, event: str) -> list[Record]:
        """The records of one kind."""
        return [record for record in self.read() if record.get("event") == event]

    def has(self, *events: str) -> bool:
        """Whether there is a record of any of these kinds."""
        return any(record.get("event") in events for record in self.read())

    def units(self, step: int) -> dict[str, Record]:
        """What step number ``step`` finished: unit → its facts."""
        return {record["unit"]: record for record in self.events("unit") if record["step"] == step}


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _cut_torn_line(path: Path) -> None:
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        whole = file.read(1) == b"\n"
    if not whole:
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
