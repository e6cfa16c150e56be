"""Measured operator latencies on disk: one SQLite file that any number of processes read and extend.

The file is ``latency.sqlite`` in the folder of the environment variable ``ARCHTOOL_CACHE``, or in
``~/.cache/archtool``. What was measured first stays, so that two processes that meet at one entry agree.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from archtool.errors import ResourceError

Sizes = tuple[tuple[str, int], ...]
"""Axis sizes, sorted by axis."""

_WAIT_SECONDS = 60.0
_COLUMNS = """machine TEXT, runtime TEXT, version TEXT, threads INTEGER, batch INTEGER, length INTEGER,
precision TEXT, signature TEXT, sizes TEXT, median_ms REAL NOT NULL,
low_ms REAL NOT NULL, high_ms REAL NOT NULL, rounds INTEGER NOT NULL, copies INTEGER NOT NULL,
PRIMARY KEY (machine, runtime, version, threads, batch, length, precision, signature, sizes)"""


@dataclass(frozen=True)
class Scope:
    """What entries must share to be added up.

    Args:
        machine: `archtool.measure.machine.Machine.id`.
        runtime: its name.
        version: its version.
        threads: threads of the arithmetic.
        batch: samples per call.
        length: tokens, time steps or pixels a side.
        precision: what the arithmetic is done in.
    """

    machine: str
    runtime: str
    version: str
    threads: int
    batch: int
    length: int
    precision: str


@dataclass(frozen=True, order=True)
class Entry:
    """The latency of one operator at one size.

    Args:
        signature: names the operator and all of its settings that are not sizes.
        sizes: its axis sizes.
        median_ms: latency of one copy, without the overhead of the call.
        low_ms: lower end of its 95 % interval.
        high_ms: upper end.
        rounds: rounds measured.
        copies: copies in the smaller of the two graphs of the slope; 0 where no slope was taken.
    """

    signature: str
    sizes: Sizes
    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    copies: int


def get_default_path() -> Path:
    """Where the store lies; see the module."""
    folder = os.environ.get("ARCHTOOL_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "archtool") / "latency.sqlite"


class LatencyStore:
    """The SQLite file; every call opens and closes it, so that forks and threads may share an instance.

    Args:
        path: the file; default `get_default_path`.

    Raises:
        ResourceError: (by every method) the file cannot be opened, read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or get_default_path()

    def read(self, scope: Scope) -> list[Entry]:
        """All entries of a scope, sorted."""
        condition = " AND ".join(f"{field.name} = ?" for field in fields(Scope))
        columns = ", ".join(field.name for field in fields(Entry))
        with self._open() as database:
            rows = database.execute(f"SELECT {columns} FROM latency WHERE {condition}", astuple(scope)).fetchall()
        return sorted(Entry(row[0], _read_sizes(row[1]), *row[2:]) for row in rows)

    def add(self, scope: Scope, entry: Entry) -> Entry:
        """Keep ``entry``, unless there is one of this signature and sizes; returns the one that is kept."""
        values = {**asdict(scope), **asdict(entry), "sizes": json.dumps(dict(entry.sizes))}
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        with self._open() as database:
            database.execute(f"INSERT OR IGNORE INTO latency ({names}) VALUES ({marks})", [*values.values()])
        kept = {(item.signature, item.sizes): item for item in self.read(scope)}
        return kept[entry.signature, entry.sizes]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as database, database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute(f"CREATE TABLE IF NOT EXISTS latency ({_COLUMNS})")
                yield database
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(
                f"the latency store {self.path} cannot be used: {error}",
                hint="set ARCHTOOL_CACHE to a writable folder, or delete the file to measure again",
            ) from error


def _read_sizes(text: str) -> Sizes:
    return tuple(sorted((str(axis), int(size)) for axis, size in json.loads(text).items()))
