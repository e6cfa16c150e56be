"""Medians, percentiles and the bootstrap interval of a ratio of medians (pure functions on arrays)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


_CHUNK = 200
"""Resamples per step, so that memory stays at _CHUNK × rounds numbers."""


@dataclass(frozen=True)
class Ratio:
    """The median of one series over the median of another, with an interval.

    Args:
        value: ratio of medians; below 1 means that the first is faster.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: probability mass of the interval.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.95


def compute_median(samples: "Sequence[float]") -> float:
    """The median."""
    import numpy as np

    return float(np.median(samples))


def compute_p95(samples: "Sequence[float]") -> float:
    """The 95th percentile, interpolated."""
    import numpy as np

    return float(np.percentile(samples, 95))


def bootstrap_ratio(
    numerator: "Sequence[float]",
    denominator: "Sequence[float]",
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Ratio:
    """Median ratio with a percentile bootstrap interval.

    Rounds are resampled, not single samples: both series were taken in the same rounds, so what slows one
    round slows both, and drift cancels (Efron & Tibshirani 1993, chapter 13, for the percentile interval).
    """
    import numpy as np

    a_N, b_N = np.asarray(numerator), np.asarray(denominator)
    generator = np.random.default_rng(seed)
    ratios: list[np.ndarray] = []
    for start in range(0, resamples, _CHUNK):
        index_SN = generator.integers(len(a_N), size=(min(_CHUNK, resamples - start), len(a_N)))
        ratios.append(np.median(a_N[index_SN], axis=1) / np.median(b_N[index_SN], axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Ratio(float(np.median(a_N) / np.median(b_N)), float(low), float(high), confidence)
