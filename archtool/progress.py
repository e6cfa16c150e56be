"""How long work reports where it is, without knowing who shows it.

Library functions take a `Progress`; the command line passes one that draws bars on stderr, tests and
the Python API pass `SILENT`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Phase(Protocol):
    """One running phase of work."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Report ``n`` more units done; ``note`` is the current metric or best so far."""


class Progress(Protocol):
    """Something that can show phases of work."""

    def phase(self, name: str, total: float | None = None) -> AbstractContextManager[Phase]:
        """Open a phase of ``total`` units (None: unknown)."""


class _SilentPhase:
    def advance(self, n: float = 1, note: str = "") -> None:
        return None


class _Silent:
    @contextmanager
    def phase(self, name: str, total: float | None = None) -> Iterator[Phase]:
        yield _SilentPhase()


SILENT: Progress = _Silent()
