"""The report for a terminal, as a rich renderable: verdict, table, widths per block, how to use it.

It fits 80 columns, says with words and signs what it says with colour, and prints nothing itself.
"""

import math
from typing import TYPE_CHECKING

from archtool.report import units
from archtool.report.compare import Row
from archtool.report.data import LayerRow, Report
from archtool.report.derive import derived

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_SIGNS = {"better": ("▲ better", "green"), "worse": ("▼ worse", "yellow")}
_MOST_BLOCKS = 60
_LATENCY_ROWS = 4


def summary(report: Report) -> "RenderableType":
    """What the command line shows at the end of a run."""
    from rich.console import Group
    from rich.text import Text

    known = derived(report)
    parts: list[RenderableType] = [Text(known.verdict, style="bold"), *_budgets(report), Text()]
    parts.append(_table(known.rows, report.parent is not None))
    strips = _strips(report.layers)
    return Group(*parts, *([Text(), *strips] if strips else []))


def _budgets(report: Report) -> list["Text"]:
    from rich.text import Text

    words = {True: ("✓ met", "green"), False: ("✗ missed", "red"), None: ("? not measured", "dim")}
    lines = []
    for check in report.budgets:
        word, style = words[check.met]
        achieved = "" if check.achieved is None else f"  (achieved {units.show(check.achieved, check.unit)})"
        lines.append(Text.assemble((word, style), f"  {check.request}{achieved}"))
    return lines


def _table(rows: tuple[Row, ...], compared: bool) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "before", "after", "ratio", "") if compared else ("", "measured"):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    shown = [row for row in rows if row.group != "latency"]
    speeds = [row for row in rows if row.group == "latency"]
    for row in [*shown, *speeds[:_LATENCY_ROWS]]:
        table.add_row(*_cells(row, compared))
    for group, label in (("quality", "quality"), ("latency", "speed")):
        if not any(row.group == group for row in rows):
            table.add_row(Text(label), Text("not measured", style="dim italic"))
    if len(speeds) > _LATENCY_ROWS:
        table.add_row(Text(f"({len(speeds) - _LATENCY_ROWS} more shapes in the report)", style="dim"))
    return table


def _cells(row: Row, compared: bool) -> list["Text"]:
    from rich.text import Text

    label = Text(row.label[:1].lower() + row.label[1:] if row.group == "sizes" else row.label.removeprefix("Latency, "))
    after = Text(_value(row.child, row.child_error, row.kind), style="bold")
    if not compared:
        return [label, after]
    before = Text(_value(row.parent, row.parent_error, row.kind))
    sign, style = _SIGNS.get(row.change, (row.change, "dim"))
    ratio = Text("" if row.ratio is None else units.ratio(row.ratio))
    return [label, before, after, ratio, Text(sign, style=style)]


def _value(value: float | None, error: float | None, kind: str) -> str:
    if value is None:
        return "not measured"
    shown = units.show(value, kind)
    return shown if error is None else f"{shown} ±{units.significant(error, 2)}"


def _strips(layers: tuple[LayerRow, ...]) -> list["Text"]:
    """One line of block characters for each structure: full height is all of the original kept."""
    from rich.text import Text

    structures = list(dict.fromkeys(row.structure for row in layers))
    width = max((len(name) for name in structures), default=0)
    lines = []
    for structure in structures:
        rows = [row for row in layers if row.structure == structure]
        for start in range(0, len(rows), _MOST_BLOCKS):
            part = rows[start : start + _MOST_BLOCKS]
            name = structure if start == 0 else ""
            kept = "".join(bar(row.kept, row.original) for row in part)
            lines.append(Text.assemble((f"{name:<{width}}  ", "dim"), kept))
    return lines


def bar(kept: float | None, original: float | None) -> str:
    """One character: ``▁`` to ``█`` by share, a space for nothing kept, ``?`` for not measured."""
    if kept is None or not original or not math.isfinite(kept / original):
        return "?"
    if kept <= 0:
        return " "
    return _BARS[min(len(_BARS), math.ceil(len(_BARS) * kept / original)) - 1]
