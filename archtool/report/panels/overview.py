"""The head of the report: what was made from what, the verdict, the budgets, four key figures."""

from archtool.report import units
from archtool.report.compare import Row
from archtool.report.data import BudgetCheck, Report
from archtool.report.derive import Derived, derived
from archtool.report.markup import Html, join, number, tag
from archtool.report.panels.marks import mark

_MET = {
    True: ("✓", "met", "good"),
    False: ("✗", "missed", "bad"),
    None: ("?", "not measured", "missing"),
}


def render(report: Report) -> Html:
    """The page's header; it always has something to say."""
    known = derived(report)
    return tag(
        "header",
        tag("p", _lineage(report), class_="kicker"),
        tag("h1", report.title),
        tag("p", _together(known.verdict), class_="verdict"),
        _budgets(report.budgets),
        _tiles(known),
    )


def _together(verdict: str) -> str:
    """The verdict with no line break between the parts of a number or a change."""
    return verdict.replace(" → ", "\u00a0→\u00a0").replace(" %", "\u00a0%").replace(" × ", "\u00a0×\u00a0")


def _lineage(report: Report) -> Html:
    parts = [report.model_name, report.family, report.task, report.provenance.started]
    return join([tag("span", part) for part in parts if part])


def _budgets(checks: tuple[BudgetCheck, ...]) -> Html | None:
    if not checks:
        return None
    return tag("ul", [_budget(i, check) for i, check in enumerate(checks)], class_="budgets")


def _budget(index: int, check: BudgetCheck) -> Html:
    symbol, word, class_ = _MET[check.met]
    achieved = number(check.achieved, check.unit, f"/budgets/{index}/achieved")
    return tag(
        "li",
        tag("b", f"{symbol} {word}", class_=class_),
        tag("code", check.request),
        join("achieved ", achieved) if check.achieved is not None else None,
    )


def _tiles(known: Derived) -> Html | None:
    """The four numbers people ask for first."""
    indexed = list(enumerate(known.rows))
    chosen = [
        next((pair for pair in indexed if pair[1].key == "parameters"), None),
        next((pair for pair in indexed if pair[1].key == "size_bytes"), None),
        next((pair for pair in indexed if pair[1].group == "quality" and pair[1].child is not None), None),
        next((pair for pair in indexed if pair[1].group == "latency" and pair[1].ratio is not None), None),
    ]
    tiles = [_tile(*pair) for pair in chosen if pair is not None]
    return tag("div", tiles, class_="tiles") if tiles else None


def _tile(index: int, row: Row) -> Html:
    before = None
    if row.parent is not None:
        before = tag("span", "from ", number(row.parent, row.kind, row.parent_path))
    share = None
    if row.ratio is not None and row.group != "quality":
        shown = units.ratio(row.ratio)
        share = tag("span", number(row.ratio, "ratio", f"/derived/rows/{index}/ratio", shown))
    label, _, shape = row.label.partition(", ")
    return tag(
        "div",
        tag("span", label, tag("small", shape) if shape else None, class_="label"),
        tag("strong", number(row.child, row.kind, row.child_path)),
        tag("span", before, share, mark(row.change), class_="from"),
        class_="tile",
    )
