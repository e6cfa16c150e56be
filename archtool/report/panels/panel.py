"""What a panel is."""

from collections.abc import Callable
from dataclasses import dataclass

from archtool.report.data import Report


@dataclass(frozen=True)
class Panel:
    """A section of the report.

    Args:
        name: unique; the section's id in the page.
        title: the heading.
        render: from the report to markup (`archtool.report.markup`), or ``None`` where it has nothing to say.
        note: one sentence on how to read it.
    """

    name: str
    title: str
    render: Callable[[Report], str | None]
    note: str = ""
