"""Item 1: the README's second command, the whole test suite.

python benchmarks/spine_tests.py --quick      without the tests marked slow
"""

from __future__ import annotations

from common import ROOT, arguments, emit
from counting import Counting, run_tests


def main() -> None:
    """Run every test and count."""
    quick = arguments(__doc__).parse_args().quick
    found = run_tests([ROOT / "tests"], Counting(), "-n", "2", *(["-m", "not slow"] if quick else []))
    counts = ", ".join(f"{found.count(outcome)} {outcome}" for outcome in ("passed", "skipped"))
    emit("spine.1.tests_failed", found.count("failed"), note=counts)


if __name__ == "__main__":
    main()
