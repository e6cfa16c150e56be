"""Latency: the distribution of single calls, parent and child interleaved, and the table behind it."""

from typing import TYPE_CHECKING

from archtool.report import units
from archtool.report.compare import shape_name
from archtool.report.data import LatencySample, Report, Snapshot, percentile
from archtool.report.derive import derived
from archtool.report.figures import CHILD, INK, LINE, MUTED, PARENT, drawable, figure
from archtool.report.markup import Html, join, number, table
from archtool.report.panels.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 10
_Lane = tuple[str, LatencySample]


def render(report: Report) -> Html | None:
    """Distributions and table; nothing where no latency was measured (the first table says so)."""
    groups = _groups(report)
    if not groups:
        return None
    drawn = dict(list(groups.items())[:_MOST])
    rest = f" The first {_MOST} of {len(groups)} shapes are drawn." if len(groups) > _MOST else ""
    caption = "Every dot is one call; the box holds the middle half, the thick line is the median." + rest
    height_in = 0.45 + sum(0.32 * len(lanes) + 0.52 for lanes in drawn.values())
    picture = figure("latency", caption, (8.6, height_in), lambda canvas: _draw(canvas, drawn))
    return join(picture, _table(report))


def _groups(report: Report) -> dict[str, list[_Lane]]:
    """Samples by shape, parent first."""
    groups: dict[str, list[_Lane]] = {}
    for role, snapshot in (("before", report.parent), ("after", report.child)):
        for sample in snapshot.latency if snapshot else ():
            groups.setdefault(shape_name(sample), []).append((role, sample))
    return groups


def _draw(canvas: "Figure", groups: dict[str, list[_Lane]]) -> None:
    heights = [len(lanes) + 1.6 for lanes in groups.values()]
    axes = canvas.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, lanes) in zip(axes, groups.items(), strict=True):
        _draw_group(axis, name, lanes)
    canvas.subplots_adjust(left=0.07, right=0.9, top=1 - 0.3 / canvas.get_figheight(), hspace=0.62)
    canvas.subplots_adjust(bottom=0.3 / canvas.get_figheight())


def _draw_group(axis: "Axes", name: str, lanes: list[_Lane]) -> None:
    limit_ms = _limit(lanes)
    for position, (role, sample) in enumerate(lanes):
        _draw_lane(axis, len(lanes) - 1 - position, role, sample, limit_ms)
    axis.set_xlim(0, limit_ms)
    axis.set_ylim(-0.6, len(lanes) - 0.4)
    axis.set_yticks(range(len(lanes)), [role for role, _ in reversed(lanes)])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=LINE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines["left"].set_visible(False)
    axis.set_title(f"{name}  (ms)", loc="left", fontsize=9, color=INK, pad=4)


def _limit(lanes: list[_Lane]) -> float:
    """The right end of the axis: all calls, but at most twice the largest 95th percentile."""
    known = [value for _, sample in lanes for value in sample.values_ms if drawable(value)]
    p95 = [sample.p95_ms for _, sample in lanes if drawable(sample.p95_ms)]
    largest = 1.05 * max((*known, *p95), default=1.0)
    return max(min(largest, 2 * max(p95, default=largest)), 1e-6)


def _draw_lane(axis: "Axes", y: int, role: str, sample: LatencySample, limit_ms: float) -> None:
    color, filled = (PARENT, False) if role == "before" else (CHILD, True)
    values = [value for value in sample.values_ms or (sample.median_ms,) if drawable(value)]
    spread = [y + 0.5 * ((0.618034 * i) % 1.0 - 0.5) for i in range(len(values))]
    axis.scatter(
        values,
        spread,
        s=7,
        facecolors=color if filled else "none",
        edgecolors=color,
        linewidths=0.5,
        alpha=0.6,
    )
    if values:
        low, high = percentile(values, 0.25), percentile(values, 0.75)
        axis.barh(y, high - low, left=low, height=0.62, facecolor="none", edgecolor=color, linewidth=1.0)
    if drawable(sample.median_ms):
        axis.plot([sample.median_ms] * 2, [y - 0.38, y + 0.38], color=INK, linewidth=2.2)
    beyond = sum(not value <= limit_ms for value in sample.values_ms)
    label = units.milliseconds(sample.median_ms) + (f"  (+{beyond} beyond)" if beyond else "")
    axis.annotate(label, (1.01, y), xycoords=("axes fraction", "data"), va="center", color=INK if filled else MUTED)


def _table(report: Report) -> Html:
    head = ["", "", "Median", "95th percentile", "Calls", "Precision", "Device", "Threads"]
    rows = []
    for role, key, snapshot in (("before", "parent", report.parent), ("after", "child", report.child)):
        rows += [_line(role, f"/{key}/latency/{i}", sample) for i, sample in _indexed(snapshot)]
    rows.sort(key=lambda row: str(row[0]))
    speedups = _speedups(report)
    return join(table(head, rows, "numbers", words=(1, 5, 6)), speedups)


def _indexed(snapshot: Snapshot | None) -> list[tuple[int, LatencySample]]:
    return list(enumerate(snapshot.latency)) if snapshot else []


def _line(role: str, path: str, sample: LatencySample) -> list[str]:
    threads = "—" if sample.threads is None else number(sample.threads, "count", f"{path}/threads")
    return [
        shape_name(sample),
        role,
        number(sample.median_ms, "ms", f"{path}/median_ms"),
        number(sample.p95_ms, "ms", f"{path}/p95_ms"),
        number(sample.count, "count", f"{path}/count"),
        sample.precision or "—",
        sample.device or "—",
        threads,
    ]


def _speedups(report: Report) -> Html | None:
    """After ÷ before of every shape that both were measured at."""
    rows = [
        [
            row.label.removeprefix("Latency, "),
            number(row.ratio, "ratio", f"/derived/rows/{i}/ratio"),
            row.change,
        ]
        for i, row in enumerate(derived(report).rows)
        if row.group == "latency" and row.ratio is not None
    ]
    return table(["", "After ÷ before", "Change"], rows, "numbers", words=(2,)) if len(rows) > 4 else None


PANEL = Panel(
    "latency",
    "Latency",
    render,
    "Single calls after warm-up, in the runtime named, each axis from zero.",
)
