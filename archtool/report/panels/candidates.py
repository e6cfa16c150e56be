"""All points of a search: quality against each cost, the front, the choice, the parent and the baselines."""

from dataclasses import replace
from typing import TYPE_CHECKING

from archtool.report import units
from archtool.report.compare import pointer
from archtool.report.data import Candidate, Report, Search
from archtool.report.figures import CHILD, INK, LINE, MUTED, PARENT, drawable, figure
from archtool.report.markup import Html, join, number, tag
from archtool.report.panels.more import folded
from archtool.report.panels.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS = {"parameters": "count", "size_bytes": "bytes", "macs": "macs", "latency_ms": "ms"}
_STYLES = {
    "candidate": {"marker": "o", "s": 14, "facecolors": "none", "edgecolors": MUTED},
    "front": {"marker": "o", "s": 26, "facecolors": CHILD, "edgecolors": CHILD},
    "chosen": {"marker": "D", "s": 80, "facecolors": CHILD, "edgecolors": INK},
    "parent": {"marker": "s", "s": 50, "facecolors": PARENT, "edgecolors": INK},
}
_BASELINE_MARKERS = "^v<>P"
_MOST_COSTS = 3


def render(report: Report) -> Html | None:
    """Scatter and table; nothing where nothing was searched."""
    search = report.search
    if search is None or not search.candidates:
        return None
    costs = cost_names(search)[:_MOST_COSTS]
    better = "higher" if search.higher_is_better else "lower"
    drawn = replace(search, candidates=tuple(c for c in search.candidates if _fits(c)))
    undrawn = len(search.candidates) - len(drawn.candidates)
    caption = f"{search.quality_name} ({better} is better) against cost. The line joins the front."
    caption += f" {undrawn} without a finite value are in the table only." if undrawn else ""
    size_in = (8.6, 3.4 if len(costs) < 3 else 3.0)
    picture = figure("candidates", caption, size_in, lambda canvas: _draw(canvas, drawn, costs))
    return join(picture if costs else None, folded("All points", _head(search), _rows(search), words=(1,)))


def _fits(candidate: Candidate) -> bool:
    return drawable(candidate.quality, *candidate.costs.values())


def cost_names(search: Search) -> list[str]:
    """The costs in the order in which they first occur."""
    return list(dict.fromkeys(name for candidate in search.candidates for name in candidate.costs))


def _draw(canvas: "Figure", search: Search, costs: list[str]) -> None:
    axes = canvas.subplots(1, len(costs), squeeze=False, sharey=True)[0]
    for axis, cost in zip(axes, costs, strict=True):
        _draw_cost(axis, search, cost)
        _label_cost(axis, cost)
        axis.grid(color=LINE, linewidth=0.5)
        axis.set_axisbelow(True)
    axes[0].set_ylabel(search.quality_name)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="upper center", ncols=min(6, len(labels)), fontsize=8)
    canvas.subplots_adjust(left=0.1, right=0.98, top=0.87, bottom=0.16, wspace=0.08)


def _label_cost(axis: "Axes", cost: str) -> None:
    """The cost's name and its ticks in its own unit."""
    from matplotlib.ticker import MaxNLocator

    kind = _KINDS.get(cost, "")
    name, _, suffix = cost.rpartition("_")
    axis.set_xlabel(name if kind and suffix in ("bytes", "ms") else cost.replace("_", " "))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(lambda value, _: units.show(value, kind).replace(".0 ", " "))


def _draw_cost(axis: "Axes", search: Search, cost: str) -> None:
    baselines = [role for role in _roles(search) if role not in _STYLES]
    for role in _roles(search):
        points = [c for c in search.candidates if c.role == role and cost in c.costs]
        if not points:
            continue
        marker = _BASELINE_MARKERS[baselines.index(role) % len(_BASELINE_MARKERS)] if role in baselines else "o"
        style = _STYLES.get(role, {"marker": marker, "s": 36, "facecolors": "none", "edgecolors": INK})
        x, y = [c.costs[cost] for c in points], [c.quality for c in points]
        axis.scatter(x, y, label=role, linewidths=0.9, zorder=3, **style)  # type: ignore[arg-type]
        _draw_spread(axis, points, cost)
    front = sorted(
        (c.costs[cost], c.quality) for c in search.candidates if c.role in ("front", "chosen") and cost in c.costs
    )
    if len(front) > 1:
        axis.step(*zip(*front, strict=True), where="post", color=CHILD, linewidth=1.0, zorder=2)


def _draw_spread(axis: "Axes", points: list[Candidate], cost: str) -> None:
    for point in points:
        if point.spread is not None and drawable(point.spread):
            axis.errorbar(
                point.costs[cost],
                point.quality,
                abs(point.spread),
                color=MUTED,
                linewidth=0.8,
                capsize=2,
                zorder=1,
            )


def _roles(search: Search) -> list[str]:
    """Roles in drawing order: plain candidates below, the chosen point on top."""
    found = list(dict.fromkeys(candidate.role for candidate in search.candidates))
    order = {"candidate": 0, "front": 2, "parent": 3, "chosen": 4}
    return sorted(found, key=lambda role: (order.get(role, 1), found.index(role)))


def _head(search: Search) -> list[str]:
    return ["", "Role", search.quality_name, *(name.replace("_", " ") for name in cost_names(search))]


def _rows(search: Search) -> list[list[str]]:
    return [
        [
            candidate.name,
            candidate.role,
            _quality(index, candidate),
            *(
                number(
                    candidate.costs.get(cost),
                    _KINDS.get(cost, ""),
                    pointer("search", "candidates", index, "costs", cost),
                )
                for cost in cost_names(search)
            ),
        ]
        for index, candidate in enumerate(search.candidates)
    ]


def _quality(index: int, candidate: Candidate) -> Html:
    path = f"/search/candidates/{index}"
    shown = number(candidate.quality, "", f"{path}/quality")
    if candidate.spread is None:
        return shown
    return join(shown, tag("small", " ± ", number(candidate.spread, "", f"{path}/spread")))


PANEL = Panel(
    "candidates",
    "Candidates",
    render,
    "A front proves something only beside baselines of the same cost: uniform and random shrinking.",
)
