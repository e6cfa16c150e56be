"""One sentence that says what was gained and what it cost, computed from the numbers alone."""

from collections.abc import Mapping, Sequence

from archtool.report import units
from archtool.report.compare import Row
from archtool.report.data import BudgetCheck, Report


def verdict(report: Report, comparison: Sequence[Row]) -> str:
    """The verdict: budgets first, then parameters, bytes, quality and speed; what is unmeasured is said."""
    rows = {row.key: row for row in comparison}
    parts = [*_sizes(report, rows), *_quality(rows), *_speed(rows)]
    sentence = ", ".join(parts)
    return " ".join(part for part in (_budgets(report), f"{_capital(sentence)}.") if part)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _budgets(report: Report) -> str:
    if not report.budgets:
        return ""
    missed = [check for check in report.budgets if check.met is False]
    unknown = [check for check in report.budgets if check.met is None]
    if missed:
        return f"Misses {_names(missed)}."
    if unknown:
        return f"Not checked: {_names(unknown)}."
    return "Meets the budget." if len(report.budgets) == 1 else f"Meets all {len(report.budgets)} budgets."


def _names(checks: list[BudgetCheck]) -> str:
    return ", ".join(check.request for check in checks)


def _sizes(report: Report, rows: Mapping[str, Row]) -> list[str]:
    return [
        text
        for text in (
            _share(rows.get("parameters"), "of the parameters"),
            _share(rows.get("size_bytes"), "of the bytes"),
        )
        if text
    ] or (["sizes not measured"] if report.parent else [])


def _share(row: Row | None, what: str) -> str:
    """``49 % of the parameters``, or the number itself where there is nothing to compare with."""
    if row is None or row.child is None:
        return ""
    if row.ratio is None:
        return f"{units.show(row.child, row.kind)}{' parameters' if row.kind == 'count' else ''}"
    return f"{units.percent(row.ratio)} {what}"


def _quality(rows: Mapping[str, Row]) -> list[str]:
    measured = [row for row in rows.values() if row.key.startswith("metric:") and row.child is not None]
    if not measured:
        return ["quality not measured"]
    row = measured[0]
    assert row.child is not None
    after = units.show(row.child, row.kind)
    if row.parent is None:
        return [f"{row.label} {after}"]
    before = units.show(row.parent, row.kind)
    if row.change == "same":
        return [f"{row.label} unchanged at {after}"]
    noise = " (within noise)" if row.change == "within noise" else ""
    return [f"{row.label} {before} → {after}{noise}"]


def _speed(rows: Mapping[str, Row]) -> list[str]:
    measured = [row for row in rows.values() if row.key.startswith("latency:") and row.child is not None]
    if not measured:
        return ["speed not measured"]
    row = next((row for row in measured if row.ratio is not None), measured[0])
    assert row.child is not None
    where = row.key.removeprefix("latency:")
    if row.ratio is None:
        return [f"{units.show(row.child, 'ms')} in {where}"]
    if row.change in ("same", "within noise"):
        return [f"no measurable change in speed ({where})"]
    faster = row.ratio < 1
    factor = 1 / row.ratio if faster and row.ratio > 0 else row.ratio
    return [f"{units.significant(factor)}× {'faster' if faster else 'slower'} ({where})"]
