"""The panels of a report: one file each, in the order a reader needs them.

A panel is a function from a `Report` to markup, or to ``None`` where it has nothing to say. A plugin adds one
through the entry-point group `ENTRY_POINT_GROUP`: an object of type `Panel`; it must build its markup with
`archtool.report.markup`, so that text is escaped, and it cannot bring scripts (the page forbids them).
"""

from collections.abc import Sequence

from archtool.errors import UsageError
from archtool.report.panels import (
    before_after,
    candidates,
    commands,
    exports,
    latency,
    layers,
    limits,
    prediction,
    provenance,
    skipped,
    steps,
    tensors,
)
from archtool.report.panels.panel import Panel

__all__ = ["ENTRY_POINT_GROUP", "Panel", "panels"]

ENTRY_POINT_GROUP = "archtool.report_panels"


_MEASURED = (
    before_after.PANEL,
    candidates.PANEL,
    layers.PANEL,
    prediction.PANEL,
    latency.PANEL,
    tensors.PANEL,
    steps.PANEL,
    skipped.PANEL,
    exports.PANEL,
)


def panels(extra: Sequence[Panel] = ()) -> tuple[Panel, ...]:
    """All panels in page order; extra ones stand after the built-in measurements, before "How to use".

    Raises:
        UsageError: two panels have the same name.
    """
    ordered = (*_MEASURED, *extra, commands.PANEL, limits.PANEL, provenance.PANEL)
    names = [panel.name for panel in ordered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"Two report panels are named {', '.join(twice)}.",
            hint="Give the plugin's panel a name of its own.",
        )
    return ordered
