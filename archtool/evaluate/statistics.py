"""Means with standard errors, correlations and F1, on numpy arrays. Legend: `N` examples, `P` pairs."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mean_stderr(values_N: "NDArray[Any]") -> float:
    """Standard error of the mean, s / sqrt(n) with n - 1 degrees of freedom; NaN for one value."""
    count = len(values_N)
    return float(values_N.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan


def proportion_stderr(share: float, count: int) -> float:
    """Standard error of a proportion, sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count)


def pearson(a_P: "NDArray[Any]", b_P: "NDArray[Any]") -> float:
    """Linear correlation; NaN where one side is constant."""
    a_P, b_P = a_P - a_P.mean(), b_P - b_P.mean()
    scale = math.sqrt(float(a_P @ a_P) * float(b_P @ b_P))
    return float(a_P @ b_P) / scale if scale > 0 else math.nan


def spearman(a_P: "NDArray[Any]", b_P: "NDArray[Any]") -> float:
    """Rank correlation, ties sharing their mean rank; NaN where one side is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(a_P), rankdata(b_P))


def spearman_bootstrap(a_P: "NDArray[Any]", b_P: "NDArray[Any]", resamples: int, seed: int) -> float:
    """Standard error of Spearman's correlation over resampled pairs (Efron 1979)."""
    import numpy as np

    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, len(a_P), len(a_P)) for _ in range(resamples))
    return float(np.nanstd([spearman(a_P[rows], b_P[rows]) for rows in draws], ddof=1))


def f1_score(labels_N: "NDArray[Any]", predicted_N: "NDArray[Any]", classes: int) -> float:
    """F1 of class 1 for two classes, else the mean over the classes that occur on either side."""
    import numpy as np

    present = [1] if classes == 2 else sorted({*labels_N.tolist(), *predicted_N.tolist()})
    scores = []
    for name in present:
        hit = int(((labels_N == name) & (predicted_N == name)).sum())
        total = int((labels_N == name).sum() + (predicted_N == name).sum())
        scores.append(2 * hit / total if total else 0.0)
    return float(np.mean(scores))


def edit_distance(a: str, b: str) -> int:
    """Fewest insertions, deletions and substitutions of characters from ``a`` to ``b`` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]
