"""Encodings tensor by tensor: scheme, stored bits and the error that each one caused, worst first."""

import math
import shlex

from archtool.report import units
from archtool.report.data import Report, TensorRow
from archtool.report.markup import Html, join, number, table, tag
from archtool.report.panels.more import folded
from archtool.report.panels.panel import Panel

_WORST = 10
_HEAD = ["", "Scheme", "Bits per weight", "Relative error", "Stored"]


def render(report: Report) -> Html | None:
    """A summary by scheme, the worst tensors, and all of them folded."""
    if not report.tensors:
        return None
    ordered = sorted(enumerate(report.tensors), key=_worst_first)
    measured = [pair for pair in ordered if pair[1].error is not None]
    rows = [_line(index, row) for index, row in ordered]
    if len(rows) <= _WORST:
        return join(table(_HEAD, rows, "numbers", words=(1,)), _advice(measured))
    worst = tag("h3", f"The {_WORST} largest errors") if measured else None
    shown = table(_HEAD, rows[:_WORST], "numbers", words=(1,)) if measured else None
    return join(_schemes(report), worst, shown, _advice(measured), folded("All tensors", _HEAD, rows, words=(1,)))


def _worst_first(pair: tuple[int, TensorRow]) -> tuple[float, int]:
    error = pair[1].error
    if error is None:
        return math.inf, pair[0]
    return (-math.inf if math.isnan(error) else -error), pair[0]


def _line(index: int, row: TensorRow) -> list[str]:
    path = f"/tensors/{index}"
    return [
        tag("code", row.name),
        row.scheme,
        number(row.bits, "count", f"{path}/bits", None if row.bits is None else units.exact(row.bits)),
        number(row.error, "error", f"{path}/error"),
        number(row.size_bytes, "bytes", f"{path}/size_bytes"),
    ]


def _schemes(report: Report) -> Html:
    """How many tensors each scheme encodes."""
    names = dict.fromkeys(row.scheme for row in report.tensors)
    counts = [(name, sum(row.scheme == name for row in report.tensors)) for name in names]
    return tag("p", ", ".join(f"{n:,} × {name}" for name, n in counts) + ".")


def _advice(measured: list[tuple[int, TensorRow]]) -> Html | None:
    """What to paste in order to keep the worst three as they are."""
    if len(measured) < 4:
        return None
    flags = " ".join(f"--protect {shlex.quote(row.name)}" for _, row in measured[:3])
    return tag("p", "To leave the worst three as they are, add ", tag("code", flags), ".", class_="foot")


PANEL = Panel(
    "tensors",
    "Encodings",
    render,
    "Relative error is ‖decoded − original‖ ÷ ‖original‖ of the tensor's values.",
)
