"""What was left as it was or done in another way than asked, each with the reason."""

from archtool.report.data import Report
from archtool.report.markup import Html, table, tag
from archtool.report.panels.panel import Panel


def render(report: Report) -> Html | None:
    """A table of what and why; nothing where nothing was skipped."""
    rows = [[tag("code", item.what), item.reason] for item in report.skipped]
    return table(["", "Reason"], rows, "plain") if rows else None


PANEL = Panel("skipped", "Left out", render, "Nothing is dropped silently: this list is complete.")
