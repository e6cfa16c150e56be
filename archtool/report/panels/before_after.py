"""Before and after: every measured quantity of parent and child, with ratio and direction."""

from archtool.report import units
from archtool.report.compare import Row
from archtool.report.data import Report
from archtool.report.derive import derived
from archtool.report.markup import Html, join, number, tag
from archtool.report.panels.marks import bar, mark
from archtool.report.panels.panel import Panel

_GROUPS = (("sizes", "Size and compute"), ("quality", "Quality"), ("latency", "Speed (median)"))
_LATENCY_ROWS = 4


def render(report: Report) -> Html:
    """The table; without a parent it has one column of numbers."""
    rows = list(enumerate(derived(report).rows))
    compared = report.parent is not None
    body = [_group(name, title, rows, compared) for name, title in _GROUPS]
    head = ["", "Before", "After", "After ÷ before", "Change"] if compared else ["", "Measured"]
    header = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head]))
    shape = tag("p", f"Compute and activation memory are for {report.input_shape}.", class_="foot")
    return join(
        tag("div", tag("table", header, body, class_="numbers compared"), class_="scroll"),
        shape if report.input_shape else None,
    )


def _group(name: str, title: str, rows: list[tuple[int, Row]], compared: bool) -> Html:
    own = [pair for pair in rows if pair[1].group == name]
    shown = own[:_LATENCY_ROWS] if name == "latency" else own
    lines = [_line(index, row, compared) for index, row in shown]
    if not own:
        lines = [tag("tr", tag("td", "not measured", colspan=_span(compared), class_="missing"))]
    if len(own) > len(shown):
        rest = f"{len(own) - len(shown)} more shapes under Latency"
        lines.append(tag("tr", tag("td", rest, colspan=_span(compared), class_="foot")))
    heading = tag("tr", tag("th", title, colspan=_span(compared), scope="rowgroup", class_="group"))
    return tag("tbody", heading, lines, class_=name)


def _span(compared: bool) -> str:
    return "5" if compared else "2"


def _line(index: int, row: Row, compared: bool) -> Html:
    label = row.label.removeprefix("Latency, ")
    sub = "sub" if label.startswith("of which") else None
    cells = [tag("th", label, scope="row", class_=sub)]
    if compared:
        cells.append(tag("td", _value(row.parent, row.parent_error, row.kind, row.parent_path)))
    cells.append(tag("td", _value(row.child, row.child_error, row.kind, row.child_path), class_="after"))
    if compared:
        cells += [tag("td", _ratio(index, row)), tag("td", mark(row.change))]
    return tag("tr", cells)


def _value(value: float | None, error: float | None, kind: str, path: str) -> Html:
    shown = number(value, kind, path)
    if error is None or value is None:
        return shown
    error_path = path.removesuffix("/value") + "/stderr"
    return join(shown, tag("small", " ± ", number(error, "", error_path, units.significant(error, 2))))


def _ratio(index: int, row: Row) -> Html | None:
    if row.ratio is None:
        return None
    return join(number(row.ratio, "ratio", f"/derived/rows/{index}/ratio"), bar(row.ratio))


PANEL = Panel(
    "before-after",
    "Before and after",
    render,
    "± is one standard error. Noise: within two of them, or 95 % intervals of the medians that overlap.",
)
