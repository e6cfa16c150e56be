"""Quality gates: ``accuracy>=0.9, loss<0.4``."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from archtool.errors import QualityError, UsageError
from archtool.evaluate.metrics import Metrics

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
GATE = re.compile(r"\s*([\w./-]+?)\s*(>=|<=|==|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Gate:
    """One condition on a metric."""

    metric: str
    relation: str
    bound: float

    def holds(self, metrics: Metrics) -> bool:
        """Whether the metric meets the bound; NaN never does. An unknown metric is a `UsageError`."""
        return OPERATORS[self.relation](metrics[self.metric], self.bound)


def parse_gates(text: str) -> tuple[Gate, ...]:
    """The gates of a comma-separated text; `UsageError` shows the form where one is not understood."""
    return tuple(_parse(part) for part in text.split(","))


def require(text: str, metrics: Metrics) -> tuple[Gate, ...]:
    """The gates, all of which hold.

    Raises:
        UsageError: text that is no gate, or a metric that the task does not give.
        QualityError: naming every gate that fails, with the measured value.
    """
    gates = parse_gates(text)
    failed = [gate for gate in gates if not gate.holds(metrics)]
    if failed:
        shown = "; ".join(
            f"{gate.metric} is {metrics[gate.metric]:.6g}, required {gate.relation} {gate.bound:g}"
            for gate in failed
        )
        raise QualityError(shown, "loosen the budget, recover with --recover, or lower the requirement")
    return gates


def _parse(part: str) -> Gate:
    found = GATE.fullmatch(part)
    try:
        return Gate(found[1], found[2], float(found[3])) if found else _refuse(part)
    except ValueError:
        return _refuse(part)


def _refuse(part: str) -> Gate:
    raise UsageError(f"{part.strip()!r} is not a requirement", "write METRIC>=NUMBER, e.g. accuracy>=0.9")
