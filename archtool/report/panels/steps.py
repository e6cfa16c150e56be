"""The steps of the recipe as they ran: time, what they did, and every warning."""

from archtool.report.data import Report, StepRecord
from archtool.report.markup import Html, join, number, table, tag
from archtool.report.panels.panel import Panel


def render(report: Report) -> Html | None:
    """One line for each step, its warnings under it."""
    if not report.steps:
        return None
    rows = [_line(index, step) for index, step in enumerate(report.steps)]
    return table(["", "What it did", "Time"], rows, "steps")


def _line(index: int, step: StepRecord) -> list[str]:
    warnings = [tag("li", warning) for warning in step.warnings]
    listed = tag("ul", warnings, class_="warnings") if warnings else None
    return [
        join(tag("b", f"{index + 1}. {step.name}")),
        join(step.summary or "—", listed),
        number(step.seconds, "s", f"/steps/{index}/seconds"),
    ]


PANEL = Panel("steps", "Steps", render, "In the order in which they ran.")
