"""The best submodel within a budget, or within each of several, from few measurements.

First every one-change-from-full loss is measured: the scores. The exact solver (`archtool.budget.solve`) has their
least sum within each budget. Where more measurements are allowed, each goes to the submodel that is expected to improve
most over the best measured one, summed over the budgets that it meets (expected improvement: Jones, Schonlau & Welch
1998, eq. 15, under `Surrogate`). What is taken is always the best *measured* submodel that meets the budget exactly.
A family of at most `BRUTE` submodels can be measured whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from archtool.budget.language import Budget
from archtool.budget.solve import Choice, solve
from archtool.errors import BudgetError, UsageError
from archtool.progress import SILENT, Progress
from archtool.transforms.extract.grid import Grid, Picks, label
from archtool.transforms.extract.path import largest, rising_path, uniform_path
from archtool.transforms.extract.pricing import Pricing
from archtool.transforms.extract.surrogate import Scores, Surrogate, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

BRUTE = 4096
"""The largest family that is measured whole."""
WORTH = 1e-4
"""Measuring ends where less than this share of the range of losses is expected to be gained."""
MORE = 32
"""Measurements beyond the scores where no number is given."""
How = Literal["auto", "brute", "solver"]
Measure = Callable[[Picks], float]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        losses: every measured submodel, in the order of measuring.
        best: for each budget the best measured submodel that meets it.
        additive: for each budget the exact solver's choice under the scores alone; empty after brute force.
        scores: the one-change scores; None after brute force.
    """

    losses: dict[Picks, float]
    best: tuple[Picks, ...]
    additive: tuple[Picks, ...] = ()
    scores: Scores | None = None


def search(
    grid: Grid, budgets: Sequence[Budget], price: Pricing, measure: Measure, how: How = "auto",
    evaluations: int | None = None, progress: Progress = SILENT,
) -> Found:  # fmt: skip
    """The best submodel within each of some absolute budgets.

    Args:
        measure: the loss of a submodel; lower is better.
        how: ``brute`` measures all, ``solver`` few; ``auto`` is brute force where all are no more than ``evaluations``.
        evaluations: how often may be measured; None: the scores and `MORE`.

    Raises:
        BudgetError: no submodel meets one of the budgets.
        UsageError: too few measurements are allowed for the scores, or the family is too large for brute force.
    """
    for budget in budgets:
        price.narrowest(budget)
    least = sum(1 for _ in grid.one_change())
    limit = least + MORE if evaluations is None else evaluations
    whole = (len(grid) <= BRUTE and how == "brute") or (how == "auto" and len(grid) <= min(limit, BRUTE))
    _check(grid, how, least, limit, whole)
    chosen = Chosen(grid, budgets, price, measure)
    with progress.phase("measure submodels", len(grid) if whole else limit) as phase:
        for picks in grid.members() if whole else grid.one_change():
            chosen.take(picks)
            phase.advance(1, label(picks))
        if whole:
            return Found(chosen.losses, chosen.best())
        scores = scores_of(grid, chosen.losses)
        additive = tuple(solved(grid, scores, budget, price) for budget in budgets)
        while len(chosen.losses) < limit:
            picks_or_none = chosen.propose(scores, additive)
            if picks_or_none is None:
                break
            chosen.take(picks_or_none)
            phase.advance(1, label(picks_or_none))
    return Found(chosen.losses, chosen.best(), additive, scores)


def _check(grid: Grid, how: How, least: int, limit: int, whole: bool) -> None:
    if how == "brute" and not whole:
        raise UsageError(f"the family has {len(grid)} submodels", f"brute force takes up to {BRUTE}: use the solver")
    if not whole and limit <= least:
        what = f"{limit} measurements are too few: the scores of this family take {least}"
        raise UsageError(what, f"allow at least {least + 1}, or nest fewer levels")


def solved(grid: Grid, scores: Scores, budget: Budget, price: Pricing) -> Picks:
    """The submodel of least additive loss within the budget, checked at its exact costs.

    Each number of skipped blocks is solved for itself; where costs do not add exactly, limits are tightened by the
    excess and solved again.
    """
    options = [p for k in range(len(grid.depth) + 1) if (p := _solved_at(k, grid, scores, budget, price))]
    return min(options, key=scores.predicted) if options else price.narrowest(budget)


def _solved_at(skipped: int, grid: Grid, scores: Scores, budget: Budget, price: Pricing) -> Picks | None:
    metrics = {term.metric: price.deltas(term.metric) for term in budget.terms}
    live = grid.live(skipped)
    fixed = {m: base + float(table[-1, skipped]) for m, (base, table) in metrics.items()}
    sites = [
        [
            Choice(float(scores.table_SL[i, n]), {m: float(table[i, n]) for m, (_, table) in metrics.items()})
            for n in range(len(grid.sites[i].sizes))
        ]
        for i in live
    ]
    limits = {term.metric: term.value - fixed[term.metric] for term in budget.terms}
    for _ in range(5):
        try:
            found = dict(zip(live, _least(sites, limits), strict=True))
        except BudgetError:
            return None
        picks = grid.canonical((*(found.get(i, 0) for i in range(len(grid.sites))), skipped))
        excess = budget.check(price(picks))
        if not excess:
            return picks
        limits = {**limits, **{e.limit.metric: limits[e.limit.metric] - (e.actual - e.limit.value) for e in excess}}
    return None


def _least(sites: Sequence[Sequence[Choice]], limits: dict[str, float]) -> tuple[int, ...]:
    """`solve` where costs are changes, which may be negative: every site's are counted from its least."""
    least = [{m: min(c.costs[m] for c in site) for m in limits} for site in sites]
    moved = [
        [Choice(c.loss, {m: c.costs[m] - low[m] for m in limits}) for c in site]
        for site, low in zip(sites, least, strict=True)
    ]
    left = {m: limit - sum(low[m] for low in least) for m, limit in limits.items()}
    if any(limit < 0 for limit in left.values()):
        raise BudgetError("no combination meets the limits", "")
    return solve(moved, {m: max(limit, 1e-9) for m, limit in left.items()}).picks


class Chosen:
    """Measured submodels, and for each budget the best of them."""

    def __init__(self, grid: Grid, budgets: Sequence[Budget], price: Pricing, measure: Measure) -> None:
        self.grid, self.budgets, self.price, self.measure = grid, budgets, price, measure
        self.losses: dict[Picks, float] = {}
        self._members: NDArray[Any] | None = None

    def take(self, picks: Picks) -> None:
        """Measure one."""
        if picks not in self.losses:
            self.losses[picks] = self.measure(picks)

    def best(self) -> tuple[Picks, ...]:
        """The best measured submodel within each budget; the narrowest is measured where none is."""
        return tuple(self._best(budget) or self._narrowest(budget) for budget in self.budgets)

    def _best(self, budget: Budget) -> Picks | None:
        ordered = sorted(self.losses, key=lambda picks: self.losses[picks])
        return next((picks for picks in ordered if not budget.check(self.price(picks))), None)

    def _narrowest(self, budget: Budget) -> Picks:
        picks = self.price.narrowest(budget)
        self.take(picks)
        return picks

    def propose(self, scores: Scores, additive: Sequence[Picks]) -> Picks | None:
        """The submodel whose measurement promises most; None where none promises anything."""
        import numpy as np

        pool_NS = self._pool(additive)
        mean_N, spread_N = Surrogate(scores, self.losses).predict(pool_NS)
        worth = WORTH * (max(self.losses.values()) - min(self.losses.values()))
        while True:
            gain_N = self._gain(pool_NS, mean_N, np.maximum(spread_N, 1e-12))
            n = int(gain_N.argmax())
            if gain_N[n] <= worth:
                return None
            picks: Picks = tuple(pool_NS[n].tolist())
            if self.price.knows(picks):
                return picks
            self.price(picks)  # its exact costs may tell that it meets fewer budgets

    def _pool(self, additive: Sequence[Picks]) -> NDArray[Any]:
        """Submodels that were not measured: all of a small family, else those near what is good."""
        import numpy as np

        if len(self.grid) <= BRUTE:
            if self._members is None:
                self._members = np.array(list(self.grid.members()))
            measured = {*self.losses}
            return self._members[[tuple(row) not in measured for row in self._members.tolist()]]
        centres = {*additive, *(p for b in self.budgets if (p := self._best(b)))}
        near = {n for centre in centres for n in neighbours(self.grid, centre)}
        paths = {*rising_path(self.grid), *uniform_path(self.grid)}
        return np.array(sorted((near | centres | paths) - {*self.losses}))

    def _gain(self, pool_NS: NDArray[Any], mean_N: NDArray[Any], spread_N: NDArray[Any]) -> NDArray[Any]:
        """(N,) expected improvement, summed over the budgets that each submodel meets."""
        import numpy as np
        from scipy.stats import norm

        estimate = self.price.estimate(pool_NS)
        total_N = np.zeros(len(pool_NS))
        spread = max(self.losses.values()) - min(self.losses.values())
        for budget in self.budgets:
            fits_N = np.all([estimate[t.metric] <= t.value for t in budget.terms], axis=0)
            best = self._best(budget)
            reached = self.losses[best] if best is not None else float(mean_N[fits_N].min(initial=np.inf)) + spread
            z_N = (reached - mean_N) / spread_N
            total_N += fits_N * ((reached - mean_N) * norm.cdf(z_N) + spread_N * norm.pdf(z_N))
        return total_N


def neighbours(grid: Grid, picks: Picks) -> Iterable[Picks]:
    """Submodels one level away at one site, or up at one and down at another; and with one block more or less."""
    tops = [len(site.sizes) - 1 for site in grid.sites]
    steps = [(i, d) for i, level in enumerate(picks[:-1]) for d in (-1, 1) if 0 <= level + d <= tops[i]]
    moves = [((i, d),) for i, d in steps] + [((i, 1), (j, -1)) for i, d in steps if d > 0 for j, e in steps if e < 0]
    for move in moves:
        changed = list(picks)
        for i, d in move:
            changed[i] += d
        yield grid.canonical(tuple(changed))
    for skipped in (picks[-1] - 1, picks[-1] + 1):
        if 0 <= skipped <= len(grid.depth):
            yield grid.canonical((*picks[:-1], skipped))


def baselines(grid: Grid, budget: Budget, price: Pricing) -> dict[str, Picks]:
    """What would be taken without scores: ``uniform`` and ``matformer``, each the largest of its path that fits."""
    paths = {"uniform": uniform_path(grid), "matformer": rising_path(grid)}
    found = {name: largest(path, budget, price) for name, path in paths.items()}
    return {name: picks for name, picks in found.items() if picks is not None}
