"""What a submodel's loss will be, from the losses that were measured: additive scores, corrected by what was learned.

The mean is the sum of one-change-from-full scores. What that leaves is a Gaussian process (Rasmussen & Williams 2006,
eqs. 2.25, 2.26 and 5.8) whose kernel is an ANOVA decomposition anchored at the whole model (Durrande et al. 2012): it
is zero wherever a single site differs, since those losses are known. Its terms are products of the scores over pairs
and triples of sites (losses rise faster, or slower, than the sum everywhere alike), and pairs of their own.
Legend: `N` submodels asked for, `M` measured ones, `S` sites (the number of skipped blocks is the last).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from archtool.transforms.extract.grid import Grid, Picks

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Standard deviations that are tried for each term of the kernel, relative to the spread of the sums."""
JITTER = 1e-3
"""Noise, relative to that spread: what no term explains."""


@dataclass(frozen=True)
class Scores:
    """One-change-from-full scores: what each level of each site alone adds to the loss of the whole model.

    ``table_SL`` has a row per site and a last one for the number of skipped blocks; ``top_S`` is each row's level of
    the whole model.
    """

    full: float
    table_SL: NDArray[Any]
    top_S: NDArray[Any]

    def of(self, picks_NS: NDArray[Any]) -> NDArray[Any]:
        """(N, S): the score of each site of each submodel."""
        import numpy as np

        return self.table_SL[np.arange(len(self.top_S)), picks_NS]

    def predicted(self, picks: Picks) -> float:
        """The additive prediction of the loss of one submodel."""
        import numpy as np

        return self.full + float(self.of(np.array([picks])).sum())


def scores_of(grid: Grid, losses: Mapping[Picks, float]) -> Scores:
    """The scores; all of ``grid.one_change()`` must have been measured."""
    import numpy as np

    full, sites = losses[grid.full], len(grid.sites)
    width = max([len(site.sizes) for site in grid.sites] + [len(grid.depth) + 1])
    table_SL = np.zeros((sites + 1, width))
    for picks in grid.one_change():
        changed = sites if picks[-1] else next((i for i in range(sites) if picks[i] != grid.full[i]), sites)
        table_SL[changed, picks[changed]] = losses[picks] - full
    return Scores(full, table_SL, np.array(grid.full))


class Surrogate:
    """Mean and standard deviation of losses that were not measured."""

    def __init__(self, scores: Scores, losses: Mapping[Picks, float]) -> None:
        import numpy as np

        self.scores = scores
        self.picks_MS = np.array(list(losses))
        mean_M = scores.full + scores.of(self.picks_MS).sum(1)
        self.left_M = np.array(list(losses.values())) - mean_M
        self.scale = float(np.abs(mean_M - scores.full).max()) or 1.0
        self._parts_MM = self._parts(self.picks_MS, self.picks_MS)
        self._weights = self._fitted()
        self._inverse_MM = np.linalg.inv(self._covariance(self._weights))

    def predict(self, picks_NS: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(N,) means and (N,) standard deviations."""
        import numpy as np

        cross_NM = sum(w * part for w, part in zip(self._weights, self._parts(picks_NS, self.picks_MS), strict=True))
        own_N = sum(w * part for w, part in zip(self._weights, self._own(picks_NS), strict=True))
        mean_N = self.scores.full + self.scores.of(picks_NS).sum(1) + cross_NM @ self._inverse_MM @ self.left_M
        variance_N = own_N - ((cross_NM @ self._inverse_MM) * cross_NM).sum(1)
        return mean_N, np.sqrt(np.maximum(variance_N, 0.0))

    def _fitted(self) -> tuple[float, ...]:
        """The weights of the terms under which what was measured is likeliest; equal ones favour the smaller."""
        squared = [(scale * self.scale) ** 2 for scale in SCALES]
        return max(product(squared, repeat=len(self._parts_MM)), key=lambda w: (self._likelihood(w), -sum(w)))

    def _likelihood(self, weights: Sequence[float]) -> float:
        import numpy as np

        lower_MM = np.linalg.cholesky(self._covariance(weights))
        half_M = np.linalg.solve(lower_MM, self.left_M)
        return -0.5 * float(half_M @ half_M) - float(np.log(np.diag(lower_MM)).sum())

    def _covariance(self, weights: Sequence[float]) -> Any:
        import numpy as np

        terms = sum(w * part for w, part in zip(weights, self._parts_MM, strict=True))
        return terms + (JITTER * self.scale) ** 2 * np.eye(len(self.left_M))

    def _parts(self, a_NS: NDArray[Any], b_MS: NDArray[Any]) -> list[Any]:
        """The kernel's terms between submodels, each of unit size."""
        (a2_N, a3_N), (b2_N, b3_N) = self._products(a_NS), self._products(b_MS)
        return [a2_N[:, None] * b2_N, a3_N[:, None] * b3_N, self._pairs(a_NS, b_MS)]

    def _own(self, a_NS: NDArray[Any]) -> list[Any]:
        a2_N, a3_N = self._products(a_NS)
        cut_NS = self._cut(a_NS)
        return [a2_N**2, a3_N**2, (cut_NS.sum(1) ** 2 - (cut_NS**2).sum(1)) / 2 / self._most]

    def _products(self, picks_NS: NDArray[Any]) -> tuple[Any, Any]:
        """Sums of products of scores over pairs and over triples of sites (Newton's identities)."""
        scores_NS = self.scores.of(picks_NS) / self.scale
        p1_N, p2_N, p3_N = (((scores_NS**n).sum(1)) for n in (1, 2, 3))
        return (p1_N**2 - p2_N) / 2, (p1_N**3 - 3 * p1_N * p2_N + 2 * p3_N) / 6

    def _pairs(self, a_NS: NDArray[Any], b_MS: NDArray[Any]) -> Any:
        import numpy as np

        a_NS, b_MS = self._cut(a_NS), self._cut(b_MS)
        sum_NM, squares_NM = 0.0, 0.0
        for i in range(a_NS.shape[1]):
            both_NM = np.minimum(a_NS[:, i, None], b_MS[:, i])
            sum_NM, squares_NM = sum_NM + both_NM, squares_NM + both_NM**2
        return (sum_NM**2 - squares_NM) / 2 / self._most

    @property
    def _most(self) -> float:
        return max(1.0, len(self.scores.top_S) * (len(self.scores.top_S) - 1) / 2)

    def _cut(self, picks_NS: NDArray[Any]) -> Any:
        """How far each site is from the whole model, 0 to 1; the last row counts upwards."""
        import numpy as np

        away_NS = np.abs(picks_NS - self.scores.top_S)
        return away_NS / np.maximum(1, np.append(self.scores.top_S[:-1], self.scores.table_SL.shape[1] - 1))
