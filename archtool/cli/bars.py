"""Progress on stderr: bars with remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from archtool.progress import SILENT, Phase, Progress

LINE_EVERY_S = 10.0


def make_progress(quiet: bool) -> Progress:
    """The progress display that fits this process's stderr."""
    if quiet:
        return SILENT
    return Bars() if sys.stderr.isatty() else Lines()


class _Bar:
    def __init__(self, bars: Any, task: Any) -> None:
        self.bars, self.task = bars, task

    def advance(self, n: float = 1, note: str = "") -> None:
        self.bars.update(self.task, advance=n, **({"note": note} if note else {}))


class Bars:
    """One bar per phase, drawn by rich; inner phases stand below outer ones."""

    def __init__(self) -> None:
        self._display: Any = None
        self._depth = 0

    @contextmanager
    def phase(self, name: str, total: float | None = None) -> Iterator[Phase]:
        """Show a bar until the block ends."""
        display = self._begin()
        task = display.add_task("  " * (self._depth - 1) + name, total=total, note="")
        try:
            yield _Bar(display, task)
        finally:
            display.stop_task(task)
            self._end()

    def _begin(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._depth == 0:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            rest = (TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"))
            self._display = Progress(*columns, *rest, console=Console(stderr=True))
            self._display.start()
        self._depth += 1
        return self._display

    def _end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._display.stop()


class _Line:
    def __init__(self, name: str, total: float | None) -> None:
        self.name, self.total = name, total
        self.done = 0.0
        self.begun = self.shown = time.monotonic()

    def advance(self, n: float = 1, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        if now - self.shown >= LINE_EVERY_S:
            self.shown = now
            self.write(f"{self.count()}{self.remaining(now)}{f', {note}' if note else ''}")

    def count(self) -> str:
        return f"{self.done:g}" if self.total is None else f"{self.done:g} of {self.total:g}"

    def remaining(self, now: float) -> str:
        if not self.total or not self.done:
            return ""
        return f", about {(now - self.begun) * (self.total / self.done - 1):.0f} s left"

    def write(self, text: str) -> None:
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()


class Lines:
    """A line when a phase ends, and one every ten seconds in between."""

    @contextmanager
    def phase(self, name: str, total: float | None = None) -> Iterator[Phase]:
        """Report a phase by lines."""
        line = _Line(name, total)
        yield line
        line.write(f"done in {time.monotonic() - line.begun:.1f} s")
