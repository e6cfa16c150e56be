"""Predicted against measured: whether the estimates that steered the method can be trusted."""

from typing import TYPE_CHECKING

from archtool.report.data import Prediction, Report
from archtool.report.derive import derived
from archtool.report.figures import CHILD, LINE, MUTED, drawable, figure
from archtool.report.markup import Html, join, number, tag
from archtool.report.panels.more import folded
from archtool.report.panels.panel import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(report: Report) -> Html | None:
    """One scatter and table for each predicted quantity."""
    shown = [(i, prediction) for i, prediction in enumerate(report.predictions) if prediction.pairs]
    correlations = derived(report).rank_correlations
    return join([_one(i, prediction, correlations[i]) for i, prediction in shown]) if shown else None


def _one(index: int, prediction: Prediction, correlation: float | None) -> Html:
    unit = f" ({prediction.unit})" if prediction.unit else ""
    caption = f"{prediction.quantity}{unit}: on the dashed line, prediction and measurement agree."
    undrawn = sum(not drawable(pair.predicted, pair.measured) for pair in prediction.pairs)
    caption += f" {undrawn} without a finite value are in the table only." if undrawn else ""
    picture = figure(f"prediction{index}", caption, (4.6, 3.2), lambda canvas: _draw(canvas, prediction, unit))
    path = f"/derived/rank_correlations/{index}"
    known = "too few pairs" if correlation is None else number(correlation, "", path)
    text = tag("p", "Rank correlation (Spearman): ", tag("b", known), f", {len(prediction.pairs)} pairs.")
    rows = [
        [
            pair.name,
            number(pair.predicted, prediction.unit, f"/predictions/{index}/pairs/{i}/predicted"),
            number(pair.measured, prediction.unit, f"/predictions/{index}/pairs/{i}/measured"),
        ]
        for i, pair in enumerate(prediction.pairs)
    ]
    return tag(
        "div",
        picture,
        tag("div", text, folded("Pairs", ["", "Predicted", "Measured"], rows)),
        class_="beside",
    )


def _draw(canvas: "Figure", prediction: Prediction, unit: str) -> None:
    axis = canvas.subplots()
    pairs = [pair for pair in prediction.pairs if drawable(pair.predicted, pair.measured)]
    predicted, measured = [pair.predicted for pair in pairs], [pair.measured for pair in pairs]
    ends = [min(predicted + measured, default=0.0), max(predicted + measured, default=1.0)]
    axis.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.scatter(predicted, measured, s=18, facecolors=CHILD, edgecolors=CHILD, alpha=0.75)
    axis.set_xlabel(f"predicted{unit}")
    axis.set_ylabel(f"measured{unit}")
    axis.locator_params(nbins=5)
    axis.grid(color=LINE, linewidth=0.5)
    axis.set_axisbelow(True)
    canvas.subplots_adjust(left=0.17, right=0.97, top=0.96, bottom=0.16)


PANEL = Panel(
    "prediction",
    "Predicted and measured",
    render,
    "How far the estimates behind the decisions agree with what was then measured.",
)
