"""Costs of submodels: exact ones, each asked for once, and the additive estimate that steers a search.

A site's level, or a number of skipped blocks, changes the whole model's costs by what it changes alone. That is exact
where sites share no tensor dimension; a submodel is taken only at its exact costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archtool.budget.language import Budget
from archtool.errors import BudgetError
from archtool.transforms.extract.grid import Grid, Picks
from archtool.transforms.extract.path import Price
from archtool.transforms.widths import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Pricing:
    """Exact costs by submodel, and the estimate of many.

    Args:
        grid: of the submodels.
        price: the exact costs of one.
        metrics: those that are estimated.
    """

    def __init__(self, grid: Grid, price: Price, metrics: Sequence[str]) -> None:
        self.grid, self.metrics = grid, tuple(metrics)
        self._price = price
        self._known: dict[Picks, Mapping[str, float]] = {}

    def __call__(self, picks: Picks) -> Mapping[str, float]:
        """The exact costs."""
        if picks not in self._known:
            self._known[picks] = self._price(picks)
        return self._known[picks]

    def knows(self, picks: Picks) -> bool:
        """Whether the exact costs have been asked for."""
        return picks in self._known

    def deltas(self, metric: str) -> tuple[float, NDArray[Any]]:
        """The whole model's cost, and a table as in `Scores` of what each level alone adds to it."""
        import numpy as np

        grid, base = self.grid, self(self.grid.full)[metric]
        width = max([len(site.sizes) for site in grid.sites] + [len(grid.depth) + 1])
        table_SL = np.zeros((len(grid.sites) + 1, width))
        for picks in grid.one_change():
            for i, (level, top) in enumerate(zip(picks, grid.full, strict=True)):
                if level != top and (picks[-1] == 0 or i == len(grid.sites)):
                    table_SL[i, level] = self(picks)[metric] - base
        return base, table_SL

    def estimate(self, picks_NS: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Metric → (N,) additive estimates; exact where a submodel has been priced."""
        import numpy as np

        found: dict[str, NDArray[Any]] = {}
        for metric in self.metrics:
            base, table_SL = self.deltas(metric)
            found[metric] = base + table_SL[np.arange(table_SL.shape[0]), picks_NS].sum(1)
        for n, row in enumerate(map(tuple, picks_NS.tolist())):
            if row in self._known:
                for metric in self.metrics:
                    found[metric][n] = self._known[row][metric]
        return found

    def narrowest(self, budget: Budget) -> Picks:
        """The submodel of least cost.

        Raises:
            BudgetError: it does not meet the budget; the message names its costs as the nearest feasible point.
        """
        grid = self.grid
        picks = grid.canonical((*(0 for _ in grid.sites), len(grid.depth)))
        excess = budget.check(self(picks))
        if excess:
            raise BudgetError(
                f"no submodel meets {budget}: the narrowest has {'; '.join(map(str, excess))}",
                f"The nearest feasible: {nearest(budget, self(picks))}. Nest more kinds, or give a larger budget.",
            )
        return picks
