"""The report as one long table (``report.csv``): section, item, quantity, before, after, ratio, unit."""

import csv
import io

from archtool.report.data import Report
from archtool.report.derive import derived

HEADER = ("section", "item", "quantity", "before", "after", "ratio", "unit")
_UNITS = {"bytes": "bytes", "ms": "ms", "macs": "MAC", "count": "", "bits": "bits"}


def to_csv(report: Report) -> str:
    """The CSV text; a value that was not measured is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for line in [*_summary(report), *_layers(report), *_tensors(report), *_candidates(report)]:
        writer.writerow(["" if cell is None else cell for cell in line])
    return buffer.getvalue()


_Line = tuple[str | float | None, ...]


def _summary(report: Report) -> list[_Line]:
    lines: list[_Line] = []
    for row in derived(report).rows:
        unit = _UNITS.get(row.kind, row.kind)
        quantity = row.key.partition(":")[2] or row.key
        lines.append((row.group, "model", quantity, row.parent, row.child, row.ratio, unit))
    return lines


def _layers(report: Report) -> list[_Line]:
    lines: list[_Line] = []
    for row in report.layers:
        share = row.kept / row.original if row.kept is not None and row.original else None
        lines.append(("layers", row.block, row.structure, row.original, row.kept, share, ""))
        if row.score is not None:
            lines.append(("layers", row.block, f"{row.structure} score", None, row.score, None, ""))
    return lines


def _tensors(report: Report) -> list[_Line]:
    lines: list[_Line] = []
    for row in report.tensors:
        lines.append(("tensors", row.name, f"bits per weight, {row.scheme}", None, row.bits, None, "bits"))
        lines.append(("tensors", row.name, "relative error", None, row.error, None, ""))
    return lines


def _candidates(report: Report) -> list[_Line]:
    lines: list[_Line] = []
    for candidate in report.search.candidates if report.search else ():
        section = f"candidates, {candidate.role}"
        name = report.search.quality_name if report.search else ""
        lines.append((section, candidate.name, name, None, candidate.quality, None, ""))
        for cost, value in candidate.costs.items():
            lines.append((section, candidate.name, cost, None, value, None, ""))
    return lines
