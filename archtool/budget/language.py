"""The budget language: ``params=0.5x,size=12MB,latency=5ms,macs=1.2G,bits=4.25,memory=1GB``.

Each term limits one cost from above, as an absolute number with a unit or as ``0.5x`` of the input model.
Prefixes are decimal (k, M, G, T = 10^3 ... 10^12; 1 MB = 10^6 bytes); KiB, MiB and GiB are binary.
Costs are handed over under the metrics' own names: see `METRIC`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from archtool.errors import UsageError, Where
from archtool.registry import suggestion

METRIC: Mapping[str, str] = MappingProxyType(
    {
        "params": "parameters",
        "size": "size_bytes",
        "memory": "memory_bytes",
        "macs": "macs",
        "latency": "latency_ms",
        "bits": "bits",
    }
)
"""Kind of limit → name of the metric it limits (``bits``: mean stored bits per weight)."""

_COUNT = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_BINARY = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_TIME = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
UNITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "params": _COUNT,
        "size": _BYTES | _BINARY,
        "memory": _BYTES | _BINARY,
        "macs": _COUNT,
        "latency": _TIME,
        "bits": {"": 1.0},
    }
)
"""Kind of limit → unit → factor to the metric's own unit."""

_EXAMPLES = {
    "params": "20M",
    "size": "12MB",
    "memory": "1GB",
    "macs": "1.2G",
    "latency": "5ms",
    "bits": "4.25",
}
_SHOWN = ("", "k", "M", "G", "B", "kB", "MB", "GB", "ms", "s")
_TERM = re.compile(r"\s*(?P<kind>[^=]*?)\s*=\s*(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?P<unit>\S*)\s*")


@dataclass(frozen=True)
class Limit:
    """One term: the cost ``kind`` may be at most ``value`` (in the metric's unit; a factor when relative)."""

    kind: str
    value: float
    relative: bool = False

    @property
    def metric(self) -> str:
        """The metric that is limited."""
        return METRIC[self.kind]

    def __str__(self) -> str:
        if self.relative:
            return f"{self.kind}={self.value:g}x"
        units = {u: f for u, f in UNITS[self.kind].items() if u in _SHOWN and f <= abs(self.value)}
        unit = max(units, key=lambda u: units[u], default=next(iter(UNITS[self.kind])))
        return f"{self.kind}={self.value / UNITS[self.kind][unit]:.6g}{unit}"


@dataclass(frozen=True)
class Excess:
    """A limit that is not met, with the cost that breaks it."""

    limit: Limit
    actual: float

    def __str__(self) -> str:
        over = self.actual / self.limit.value - 1
        return f"{self.limit.metric} is {self.actual:g}, over {self.limit} by {over:.2%}"


@dataclass(frozen=True)
class Budget:
    """Limits that must all hold."""

    terms: tuple[Limit, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))

    def limit(self, kind: str) -> Limit | None:
        """The term of one kind, if it is there."""
        return next((term for term in self.terms if term.kind == kind), None)

    def resolve(self, parent_costs: Mapping[str, float]) -> "Budget":
        """Turn relative terms into absolute ones, given the input model's costs by metric name."""
        return Budget(tuple(_absolute(term, parent_costs) for term in self.terms))

    def check(self, costs: Mapping[str, float]) -> tuple[Excess, ...]:
        """The limits that ``costs`` (by metric name) breaks; relative terms must be resolved first."""
        relative = [str(term) for term in self.terms if term.relative]
        if relative:
            raise ValueError(f"resolve {', '.join(relative)} before checking")
        actual = [(term, _cost(term, costs)) for term in self.terms]
        return tuple(Excess(term, cost) for term, cost in actual if cost > term.value)


def parse_budget(text: str) -> Budget:
    """Read a budget; raises `UsageError` that points at the term that is wrong."""
    terms: list[Limit] = []
    column = 0
    for part in text.split(","):
        term = _term(part, text, column)
        if any(term.kind == other.kind for other in terms):
            raise _error(text, column, f"`{term.kind}` is limited twice", "keep the tighter one")
        terms.append(term)
        column += len(part) + 1
    return Budget(tuple(terms))


def _term(part: str, text: str, column: int) -> Limit:
    column += len(part) - len(part.lstrip())
    match = _TERM.fullmatch(part)
    if match is None:
        raise _error(text, column, f"`{part.strip()}` is not a budget term", "write for example params=0.5x,size=12MB")
    kind = match["kind"]
    if kind not in METRIC:
        raise _error(text, column, f"unknown budget `{kind}`", suggestion(kind, METRIC))
    start = column + part.strip().index(match["number"])
    return _limit(kind, _number(match["number"], text, start), match["unit"], text, start)


def _limit(kind: str, number: float, unit: str, text: str, column: int) -> Limit:
    if number <= 0:
        raise _error(text, column, f"`{kind}={number:g}{unit}`: a budget must be above 0", f"try {_example(kind)}")
    if unit == "x" and number > 1:
        what = f"`{kind}={number:g}x` asks for growth: a budget is at most the input's own cost"
        raise _error(text, column, what, "use a factor between 0 and 1, such as 0.5x")
    if unit == "x":
        return Limit(kind, number, relative=True)
    if unit not in UNITS[kind]:
        raise _error(text, column, _unit_problem(kind, number, unit), f"write for example {_example(kind)}")
    return Limit(kind, number * UNITS[kind][unit])


def _number(word: str, text: str, column: int) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _error(text, column, f"`{word}` is not a number", "write digits with one decimal point")
    return number


def _unit_problem(kind: str, number: float, unit: str) -> str:
    units = ", ".join(filter(None, (*UNITS[kind], "x")))
    if not unit:
        return f"`{kind}={number:g}` needs a unit: {units}"
    return f"`{kind}={number:g}{unit}`: unknown unit `{unit}`; {kind} takes {units}"


def _example(kind: str) -> str:
    return f"{kind}=0.5x or {kind}={_EXAMPLES[kind]}"


def _absolute(term: Limit, parent_costs: Mapping[str, float]) -> Limit:
    if not term.relative:
        return term
    return replace(term, value=term.value * _cost(term, parent_costs), relative=False)


def _cost(term: Limit, costs: Mapping[str, float]) -> float:
    if term.metric not in costs:
        raise UsageError(
            f"the budget {term} needs the cost `{term.metric}`, which is not measured here",
            hint=f"costs known here: {', '.join(sorted(costs)) or 'none'}",
        )
    return costs[term.metric]


def _error(text: str, column: int, what: str, hint: str) -> UsageError:
    return UsageError(what, hint, Where(Path("budget"), 1, column + 1, text))
