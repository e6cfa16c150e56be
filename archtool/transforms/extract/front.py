"""What a search measured as a table: the front, the choice, baselines, and everything else.

A submodel is on the front when no measured one has both less loss and less cost.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archtool.transforms.extract.grid import Grid, Picks, label

COSTS = ("parameters", "macs", "size_bytes")
FRONT, CHOSEN, PARENT, CANDIDATE = "front", "chosen", "parent", "candidate"


@dataclass(frozen=True)
class Row:
    """One measured submodel; ``role`` as in `archtool.report.data.Candidate`."""

    picks: Picks
    role: str
    loss: float
    costs: Mapping[str, float]


def pareto(losses: Mapping[Picks, float], cost: Mapping[Picks, float]) -> list[Picks]:
    """The submodels that no other beats in loss and cost, cheapest first; of equal ones the first."""
    front: list[Picks] = []
    for picks in sorted(losses, key=lambda p: (cost[p], losses[p])):
        if not front or losses[picks] < losses[front[-1]]:
            front.append(picks)
    return front


def table(
    grid: Grid, losses: Mapping[Picks, float], costs: Mapping[Picks, Mapping[str, float]], front: Sequence[Picks] = (),
    chosen: Picks | None = None, baselines: Mapping[str, Sequence[Picks]] | None = None,
) -> list[Row]:  # fmt: skip
    """All measured submodels with their roles; one that has several roles has a row for each but `CANDIDATE`."""
    roles: dict[Picks, list[str]] = {picks: [] for picks in losses}
    for name, members in (baselines or {}).items():
        for picks in members:
            roles[picks].append(name)
    for picks in front:
        roles[picks].append(FRONT)
    if grid.full in roles:
        roles[grid.full].append(PARENT)
    if chosen is not None:
        roles[chosen] = [*(r for r in roles[chosen] if r != FRONT), CHOSEN]
    return [Row(p, role, losses[p], costs[p]) for p, found in roles.items() for role in found or [CANDIDATE]]


def plain(grid: Grid, row: Row) -> dict[str, Any]:
    """A row as JSON values."""
    submodel = grid.submodel(row.picks)
    costs = {name: row.costs[name] for name in COSTS}
    shape = {"counts": dict(submodel.counts), "skipped": list(submodel.skipped)}
    return {"name": label(row.picks), "role": row.role, "loss": row.loss, **costs, **shape}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Plain rows as csv; sizes and skipped blocks as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(rows[0].keys() if rows else ())
    for row in rows:
        writer.writerow([json.dumps(v) if isinstance(v, dict | list) else v for v in row.values()])
    return buffer.getvalue()
