"""All that follows from a report's own numbers: verdict, before/after rows, rank correlations."""

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from archtool.report.compare import Row, comparison
from archtool.report.data import Prediction, Report
from archtool.report.verdict import verdict


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What is computed from a report; ``rank_correlations`` has one entry per prediction."""

    verdict: str
    rows: tuple[Row, ...]
    rank_correlations: tuple[float | None, ...]


def derived(report: Report) -> Derived:
    """Compute everything that follows from the report's own numbers."""
    rows = comparison(report)
    return Derived(
        verdict=verdict(report, rows),
        rows=rows,
        rank_correlations=tuple(rank_correlation(prediction) for prediction in report.predictions),
    )


def rank_correlation(prediction: Prediction) -> float | None:
    """Spearman's rank correlation of predicted and measured (ties averaged); None below three pairs."""
    if len(prediction.pairs) < 3:
        return None
    predicted = _ranks([pair.predicted for pair in prediction.pairs])
    measured = _ranks([pair.measured for pair in prediction.pairs])
    if len(set(predicted)) == 1 or len(set(measured)) == 1:
        return None
    return statistics.correlation(predicted, measured)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, ties given their mean rank."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) - 1) / 2 for value in values]
