"""What ``extract`` does on a nested checkpoint: measure, choose, keep the table, and name what else could be taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.budget.language import METRIC, Budget, Limit, parse_budget
from archtool.errors import UsageError
from archtool.ir.nesting import Nesting, check_submodel
from archtool.model.apply import apply
from archtool.model.costs import Workload, costs
from archtool.run.assess import assess
from archtool.run.folder import write_json, write_text
from archtool.run.step import Context, State
from archtool.run.steps.editing import absolute, finish
from archtool.run.steps.widths import Latency, within
from archtool.transforms.extract.front import FRONT, as_csv, pareto, plain, table
from archtool.transforms.extract.grid import Grid, Picks, grid_of, label
from archtool.transforms.extract.path import largest, rising_path, uniform_path
from archtool.transforms.extract.pricing import Pricing
from archtool.transforms.extract.search import Found, Measure, baselines, search
from archtool.transforms.extract.slices import Slice, read_slices, slice_named, write_slices
from archtool.transforms.nesting import DEPTH
from archtool.transforms.units import KINDS, WIDTH, protected_tensors, unit_axes

if TYPE_CHECKING:
    from archtool.ir.architecture import Architecture
    from archtool.ir.edit import Edit
    from archtool.run.steps.extract import ExtractOptions

MOST_PRICED = 1100
"""So many candidates are listed with exact costs; of more only those that play a part."""


def named(state: State, options: ExtractOptions, context: Context) -> State:
    """The submodel that a slicing table names."""
    checkpoint, arch = state.checkpoint, state.checkpoint.architecture
    assert options.slice is not None and options.slices is not None
    chosen = slice_named(read_slices(Path(options.slices), arch), options.slice).submodel
    notes = []
    if checkpoint.nesting is None:
        notes = [("extract", "the checkpoint does not say what is nested in it: the slice was cut as it is named")]
    else:
        whole = dict(chosen.counts)
        every = tuple((axis, whole.get(axis, sizes[-1])) for axis, sizes in checkpoint.nesting.levels)
        check_submodel(checkpoint.nesting, replace(chosen, counts=every), arch)
    edit = replace(chosen.edit(arch, "slice"), notes=tuple(notes))
    after = finish(state, edit, apply(checkpoint, edit), context, None, "extract")
    if options.write_slices:
        row = Slice(options.slice, chosen, after.metrics["parameters"])
        write_text(Path(options.write_slices), write_slices([row], arch))
    return after


def best(state: State, nesting: Nesting, options: ExtractOptions, context: Context) -> State:
    """The best submodel within the budget, or the front, or both."""
    work = _Extraction(state, nesting, options, context)
    if options.front or options.front_models:
        work.find_front()
    if options.budget is None:
        after = assess(state, context)
    else:
        edit, latency, budget = work.choose(options.budget)
        after = finish(state, edit, apply(state.checkpoint, edit), context, budget, "extract", latency)
    work.write_slices()
    records = {**after.records, **work.records()}
    return replace(after, records=records)


@dataclass
class _Extraction:
    """One extraction: what is nested, what it costs, and what was measured."""

    state: State
    nesting: Nesting
    options: ExtractOptions
    context: Context
    losses: dict[Picks, float] = field(default_factory=dict)
    front: list[Picks] = field(default_factory=list)
    beside: dict[str, list[Picks]] = field(default_factory=dict)
    chosen: Picks | None = None
    predicted: dict[Picks, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checkpoint = self.state.checkpoint
        self.arch: Architecture = self.checkpoint.architecture
        self.grid = restricted(self.nesting, self.arch, self.options.units, self.context.recipe.protect)
        self.workload = Workload(self.context.recipe.length)
        self.price = Pricing(self.grid, self._costs, [m for m in METRIC.values() if m != "latency_ms"])
        self.measure: Measure | None = self._measure() if self.context.recipe.data else None

    def _costs(self, picks: Picks) -> dict[str, float]:
        return costs(apply(self.checkpoint, self._edit(picks)), self.workload)

    def _edit(self, picks: Picks) -> Edit:
        return self.grid.submodel(picks).edit(self.arch, "extract")

    def _measure(self) -> Measure:
        from archtool.run.submodels import Losses, held_out

        data = held_out(self.checkpoint, self.context, self.options.split, self.options.examples)
        return Losses(self.checkpoint, self.grid, data, self.context)

    @property
    def loss_name(self) -> str:
        """What was measured."""
        return str(getattr(self.measure, "name", "loss"))

    def choose(self, text: str) -> tuple[Edit, Latency | None, Budget]:
        """The best submodel's edit within a budget."""
        budget = absolute(text, self.state, self.context)
        edit, latency = within(self.checkpoint, budget, self.context, self._solve)
        return replace(edit, notes=(*edit.notes, *self._notes())), latency, budget

    def _solve(self, limits: Budget) -> Edit:
        if not limits.terms:
            self.chosen = self.grid.full
        elif self.measure is None:
            self.chosen = self._unmeasured(limits)
        else:
            self._keep(self._search([limits], self.measure))
            self._compare(limits, self.measure)
        assert self.chosen is not None
        return self._edit(self.chosen)

    def _unmeasured(self, limits: Budget) -> Picks:
        """Without data: MatFormer's rising widths."""
        return largest(rising_path(self.grid), limits, self.price) or self.price.narrowest(limits)

    def _search(self, budgets: Sequence[Budget], measure: Measure) -> Found:
        options = self.options
        return search(
            self.grid, budgets, self.price, measure, options.search, options.evaluations, self.context.progress
        )

    def _keep(self, found: Found) -> None:
        self.losses.update(found.losses)
        self.chosen = found.best[0]
        if found.scores is not None:
            ones = set(self.grid.one_change())
            self.predicted.update({p: found.scores.predicted(p) for p in found.losses if p not in ones})

    def _compare(self, limits: Budget, measure: Measure) -> None:
        """Measure the baselines; one that is better than the choice is the choice."""
        found = baselines(self.grid, limits, self.price)
        self.losses.update({picks: measure(picks) for picks in found.values()})
        self.beside = {name: [picks] for name, picks in found.items()}
        assert self.chosen is not None
        self.chosen = min([self.chosen, *found.values()], key=lambda picks: self.losses[picks])
        said = [f"{name} {self.losses[p]:.4g} ({label(p)})" for name, p in found.items()]
        text = f"{self.loss_name} {self.losses[self.chosen]:.4g} ({label(self.chosen)}); {', '.join(said)}"
        self.context.log(f"extract: {text}")

    def find_front(self) -> None:
        """Search at budgets from the narrowest to the whole model; what no measured submodel beats is the front."""
        if self.measure is None:
            raise UsageError(
                "the front needs measured losses", "Give --data FILE and, where it is not obvious, --task."
            )
        kind = self._kind
        narrow = self.price((*(0 for _ in self.grid.sites), len(self.grid.depth)))[METRIC[kind]]
        whole, points = self.price(self.grid.full)[METRIC[kind]], self.options.points
        steps = [narrow + (whole - narrow) * i / (points - 1) for i in range(points)]
        self._keep(self._search([Budget((Limit(kind, value),)) for value in steps], self.measure))
        self.chosen = None
        self.beside = {"uniform": uniform_path(self.grid), "matformer": rising_path(self.grid)}
        self.losses.update({p: self.measure(p) for paths in self.beside.values() for p in paths})
        self.front = self._pareto()
        self._write_front()

    @property
    def _kind(self) -> str:
        """The kind of cost along which the front runs: that of the budget's first exact term."""
        terms = parse_budget(self.options.budget).terms if self.options.budget else ()
        return next((term.kind for term in terms if term.kind != "latency"), "params")

    def _pareto(self) -> list[Picks]:
        metric = METRIC[self._kind]
        return pareto(self.losses, {picks: self.price(picks)[metric] for picks in self.losses})

    def _write_front(self) -> None:
        found = sorted(self._rows(), key=lambda row: row.costs[METRIC[self._kind]])
        rows = [plain(self.grid, row) for row in found if row.role == FRONT]
        others = [plain(self.grid, row) for role in self.beside for row in found if row.role == role]
        write_text(self.context.folder / "front.csv", as_csv([*rows, *others]))
        write_json(self.context.folder / "front.json", {"loss": self.loss_name, "rows": [*rows, *others]})
        self.context.log(f"extract: {len(rows)} models on the front, of {len(self.losses)} measured")
        if self.options.front_models:
            from archtool.export.model import export_model

            for picks in self.front:
                folder = self.context.folder / "front" / label(picks)
                export_model(apply(self.checkpoint, self._edit(picks)), folder, force=True)

    def _rows(self) -> list[Any]:
        part = {*self.front, *(p for paths in self.beside.values() for p in paths), self.chosen, self.grid.full}
        listed = self.losses if len(self.losses) <= MOST_PRICED else {p: v for p, v in self.losses.items() if p in part}
        prices = {picks: self.price(picks) for picks in listed}
        return table(self.grid, listed, prices, self.front, self.chosen, self.beside)

    def write_slices(self) -> None:
        """The chosen submodel, the front and the uniform ones as a slicing table, where it was asked for."""
        if not self.options.write_slices:
            return
        chosen = [self.chosen] if self.chosen is not None else []
        names = {label(picks): picks for picks in (*chosen, *self.front)}
        if self.front:
            names |= {f"uniform-{level}": picks for level, picks in enumerate(uniform_path(self.grid))}
        rows = [
            Slice(name, self.grid.submodel(p), self.price(p)["parameters"], self.losses.get(p))
            for name, p in names.items()
        ]
        write_text(Path(self.options.write_slices), write_slices(rows, self.arch, self.loss_name))

    def _notes(self) -> tuple[tuple[str, str], ...]:
        assert self.chosen is not None
        if self.measure is None:
            text = "without data no submodel was measured: widths rise over the depth as MatFormer's heuristic has them"
            return (("extract", text),)
        said = f"{label(self.chosen)} of {len(self.grid)} submodels; {len(self.losses)} were measured"
        found = {name: paths[0] for name, paths in self.beside.items() if len(paths) == 1}
        taken = next((name for name, picks in found.items() if picks == self.chosen), "")
        also = f"; it is the {taken} one" if taken else ""
        return (("extract", f"{said} ({self.loss_name} {self.losses[self.chosen]:.6g}){also}"),)

    def records(self) -> Mapping[str, Any]:
        """What the report shows: every measured submodel, and predicted beside measured losses."""
        if not self.losses:
            return {}
        rows = [
            {"name": label(r.picks), "role": r.role, "quality": r.loss, "costs": _listed(r.costs)} for r in self._rows()
        ]
        pairs = [{"name": label(p), "predicted": v, "measured": self.losses[p]} for p, v in self.predicted.items()]
        return {
            "search": {"quality_name": self.loss_name, "higher_is_better": False, "candidates": rows},
            "predictions": [{"quantity": f"{self.loss_name}, additive", "pairs": pairs}] if pairs else [],
        }


def _listed(found: Mapping[str, float]) -> dict[str, float]:
    return {name: found[name] for name in ("parameters", "macs", "size_bytes")}


def restricted(nesting: Nesting, arch: Architecture, kinds: Sequence[str], protect: Sequence[str]) -> Grid:
    """The choices that some kinds of units (none: all) and protected parts leave.

    Raises:
        UsageError: they leave none.
    """
    wanted = [kind for kind in kinds or (*KINDS, WIDTH) if kind != DEPTH]
    free = unit_axes(arch, wanted, protect) if wanted else ()
    kept = protected_tensors(arch, protect)
    held = {name.partition(".")[0] for name in kept}
    depth = tuple(b for b in nesting.depth if b not in held) if not kinds or DEPTH in kinds else ()
    grid = grid_of(replace(nesting, depth=depth), arch, [axis for axis in nesting.sizes if axis not in free])
    if len(grid) == 1:
        what = f"nothing of {', '.join(kinds) or 'this model'} that may change is nested"
        raise UsageError(what, "archtool inspect MODEL shows what is nested.")
    return grid
