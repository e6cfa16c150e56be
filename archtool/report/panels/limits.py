"""What this report does not show: the limits stated by the methods, and what was not measured."""

from archtool.report.data import Report
from archtool.report.markup import Html, tag
from archtool.report.panels.panel import Panel


def render(report: Report) -> Html | None:
    """A list; nothing where there is no limit to state."""
    items = all_limits(report)
    return tag("ul", [tag("li", item) for item in items], class_="limits") if items else None


def all_limits(report: Report) -> list[str]:
    """The stated limits, then one line that names what was not measured."""
    missing = unmeasured(report)
    return [*report.limits, *([f"Not measured here: {', '.join(missing)}."] if missing else [])]


def unmeasured(report: Report) -> list[str]:
    """The measurements a reader expects and does not get."""
    child = report.child
    expected = {
        "quality": bool(child.metrics),
        "latency": bool(child.latency),
        "size on disk": child.size_bytes is not None,
        "peak memory": child.peak_memory_bytes is not None,
        "equality of the exported files": any(c.max_difference is not None for c in report.exports),
    }
    return [name for name, known in expected.items() if not known]


PANEL = Panel("limits", "Limits", render, "Read these before you rely on the numbers.")
