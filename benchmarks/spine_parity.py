"""Item 2: every family against transformers on random configurations, measured inside its own tests.

The tests of the families compare outputs and demand 1e-5; this command runs them and keeps the largest difference
that their comparisons found. Differences of tests that make a wrong head order on purpose are not counted.

    python benchmarks/spine_parity.py
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from claims import FAMILIES
from common import ROOT, arguments, emit
from counting import Counting, run_tests

WRONG = "wrong"
LINES = {"Mistral": "mistral", "Qwen2": "qwen2", "Qwen3": "qwen3"}
"""Classes that the file of the Llama line tests under their own names."""


class Parity(Counting):
    """Also keeps the differences found in each test."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, dict[str, float]] = defaultdict(dict)

    def keep(self, value: float) -> None:
        """Note a difference found by the test that runs."""
        test = self.current
        if WRONG not in test.name:
            values = self.found[family_of(test)]
            values[test.nodeid] = max(value, values.get(test.nodeid, 0.0))

    def recording(self, compare: Callable[..., Any], pick: Callable[[Any], float]) -> Callable[..., Any]:
        """A comparison that notes what it returns."""

        def recorded(*words: Any, **more: Any) -> Any:
            result = compare(*words, **more)
            self.keep(pick(result))
            return result

        return recorded

    def pytest_collection_finish(self, session: Any) -> None:
        """timm has no transformers class: its file compares with a function of its own."""
        module = sys.modules["tests.families.test_timm_vit"]
        module._worst = self.recording(module._worst, float)  # type: ignore[attr-defined]


def family_of(test: Any) -> str:
    """The family that a test is about, from its file and, in the Llama line, its class."""
    stem = str(test.path.stem).removeprefix("test_")
    name = str(getattr(test, "callspec", None) and test.callspec.params.get("name", ""))
    return next((line for prefix, line in LINES.items() if name.startswith(prefix)), stem)


def watched() -> Parity:
    """The plugin, with the shared comparisons of the tests under its watch before any test imports them."""
    from tests.families import decoder_checks, encoder_checks

    plugin = Parity()
    encoder_checks.compared = plugin.recording(encoder_checks.compared, float)
    decoder_checks.check_parity = plugin.recording(decoder_checks.check_parity, lambda result: float(result[2]))
    return plugin


def main() -> None:
    """Run the tests and print the largest difference of each family."""
    arguments(__doc__).parse_args()
    plugin = watched()
    run_tests([ROOT / "tests/families", ROOT / "tests/export/test_identity.py"], plugin)
    for family in FAMILIES:
        values = plugin.found.get(family)
        if values:
            emit(f"spine.2.{family}_max_abs_diff", max(values.values()), note=f"{len(values)} configurations")
    emit("spine.2.fewest_configurations", min(len(plugin.found.get(family, ())) for family in FAMILIES))
    wrong = {name.partition("::")[0] for name, o in plugin.outcomes.items() if WRONG in name and o == "passed"}
    emit("spine.2.families_with_wrong_order_test", len(wrong))
    emit("spine.2.identity_failed", plugin.count("failed", "test_identity"))
    emit("spine.2.tests_failed", plugin.count("failed", "tests/families"))


if __name__ == "__main__":
    main()
