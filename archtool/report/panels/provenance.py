"""Where the numbers come from: hashes, seed, data, versions, machine, wall time, the recipe as given."""

from archtool.report.data import Report
from archtool.report.markup import Html, join, number, tag
from archtool.report.panels.panel import Panel


def render(report: Report) -> Html | None:
    """Definition lists, then the recipe; nothing where nothing is known."""
    known = report.provenance
    single = {
        "Seed": None if known.seed is None else number(known.seed, "count", "/provenance/seed", str(known.seed)),
        "Started": known.started or None,
        "Wall time": _time(known.wall_seconds),
    }
    groups = [
        _group("Run", {name: value for name, value in single.items() if value}),
        _group("Inputs", known.inputs, code=True),
        _group("Outputs", known.outputs, code=True),
        _group("Data", known.data, code=True),
        _group("Machine", known.hardware),
        _group("Versions", known.versions),
    ]
    shown = [group for group in groups if group is not None]
    if not shown and not known.recipe:
        return None
    recipe = join(tag("h3", "Recipe"), tag("pre", tag("code", known.recipe.strip("\n")))) if known.recipe else None
    return join(tag("div", shown, class_="facts"), recipe)


def _time(seconds: float | None) -> Html | None:
    return None if seconds is None else number(seconds, "s", "/provenance/wall_seconds")


def _group(title: str, items: dict[str, str], code: bool = False) -> Html | None:
    if not items:
        return None
    pairs = [[tag("dt", name), tag("dd", tag("code", value) if code else value)] for name, value in items.items()]
    return tag("section", tag("h3", title), tag("dl", pairs))


PANEL = Panel("provenance", "Provenance", render, "The same inputs, seed and versions give the same model hash.")
