"""The written files, reloaded and compared with the model in memory."""

from archtool.report.data import ExportCheck, Report
from archtool.report.markup import Html, number, table, tag
from archtool.report.panels.panel import Panel


def render(report: Report) -> Html | None:
    """One line for each dialect or format."""
    if not report.exports:
        return None
    rows = [_line(index, check) for index, check in enumerate(report.exports)]
    head = ["", "Loads in", "Largest difference", "Tolerance", "Result"]
    return table(head, rows, "numbers", words=(1, 4))


def _line(index: int, check: ExportCheck) -> list[str]:
    path = f"/exports/{index}"
    return [
        check.dialect,
        check.loads_in or "—",
        number(check.max_difference, "error", f"{path}/max_difference"),
        number(check.tolerance, "error", f"{path}/tolerance"),
        _result(check),
    ]


def _result(check: ExportCheck) -> Html:
    if check.max_difference is None or check.tolerance is None:
        return tag("span", "? not verified", class_="mark missing")
    where = ", fresh process" if check.fresh_process else ""
    if check.max_difference <= check.tolerance:
        return tag("span", f"✓ equal{where}", class_="mark good")
    return tag("span", f"✗ differs{where}", class_="mark bad")


PANEL = Panel(
    "exports",
    "Export check",
    render,
    "The largest absolute difference between the outputs of the reloaded file and of the model in memory.",
)
