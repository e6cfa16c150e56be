"""A pytest plugin that counts outcomes and knows which test runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from common import ROOT


class Counting:
    """Outcomes by test; a test that fails in set-up or tear-down failed."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.current: Any = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: Any) -> None:
        """Note the test that begins."""
        self.current = item

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note its outcome."""
        counts = report.when == "call" or report.outcome != "passed"
        if counts and self.outcomes.get(report.nodeid) != "failed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be imported is a failure too."""
        if report.failed:
            self.outcomes[report.nodeid] = "failed"

    def count(self, outcome: str, part: str = "") -> int:
        """How many tests whose id contains ``part`` ended so."""
        return Counter(o for name, o in self.outcomes.items() if part in name)[outcome]


def run_tests(paths: Sequence[Path], plugin: Counting, *options: str) -> Counting:
    """Run tests in this process; RuntimeError where there are none."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise RuntimeError(f"no tests at {', '.join(p.relative_to(ROOT).as_posix() for p in missing)}")
    words = ["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *options, *map(str, paths)]
    code = pytest.main(words, [plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code!r}")
    return plugin
