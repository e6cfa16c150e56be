"""Quality gates: ``--require "accuracy>=0.9"`` decides the exit code, never the result."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from archtool.errors import QualityError, UsageError
from archtool.registry import suggestion

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(r"\s*([A-Za-z_][\w.@-]*)\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")


def parse_gate(text: str) -> tuple[str, str, float]:
    """Metric, comparison and threshold of one gate; raises `UsageError`."""
    match = _GATE.fullmatch(text)
    if match is None:
        hint = 'write a metric, a comparison and a number, such as "accuracy>=0.9"'
        raise UsageError(f"`{text}` is not a quality gate", hint)
    try:
        return match[1], match[2], float(match[3])
    except ValueError as problem:
        raise UsageError(f"`{match[3]}` in the quality gate `{text}` is not a number") from problem


def check_gates(gates: Sequence[str], metrics: Mapping[str, float]) -> None:
    """Raise `QualityError` naming every gate the metrics fail, `UsageError` for unknown metrics."""
    failed = []
    for text in gates:
        name, sign, threshold = parse_gate(text)
        if name not in metrics:
            raise UsageError(f"the gate `{text}` names a metric this run does not give", suggestion(name, metrics))
        value = metrics[name]
        if math.isnan(value) or not _COMPARE[sign](value, threshold):
            failed.append(f"{name} is {value:g}, required {sign} {threshold:g}")
    if failed:
        raise QualityError(
            f"quality gate failed: {'; '.join(failed)}",
            hint="the result is kept; loosen the budget, add recovery training, or change --require",
        )
