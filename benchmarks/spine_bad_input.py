"""Item 7: every kind of bad input gives its message and exit code, counted over ``tests/bad_input``.

python benchmarks/spine_bad_input.py
"""

from __future__ import annotations

from common import ROOT, arguments, emit
from counting import Counting, run_tests


def main() -> None:
    """Run the tests and count."""
    arguments(__doc__).parse_args()
    found = run_tests([ROOT / "tests" / "bad_input"], Counting())
    for outcome in ("failed", "passed", "skipped"):
        emit(f"spine.7.bad_input_{outcome}", found.count(outcome))


if __name__ == "__main__":
    main()
