"""``bench``: latency in the runtimes that will run the model, in turns with its parent; the operator table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from archtool.config.fields import InputPath, Names, split_items
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option

if TYPE_CHECKING:
    from archtool.measure.compare import BenchPlan, LatencyRow
    from archtool.measure.latency import LatencyResult
    from archtool.measure.table import PredictionError
    from archtool.model.checkpoint import Checkpoint

PARENT, CHILD = "parent", "child"

TABLE_SHARE = 0.3
"""Seconds of a window of the table per second of a point; a table has very many windows."""


Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(split_items)]


class BenchOptions(StepOptions):
    """Options of ``bench``."""

    runtime: Names = option((), "Runtimes, separated by commas; the recipe's where none is given.", panel="Runtime")
    against: InputPath = option(None, "A model to compare with instead of the parent.", panel="Input")
    batches: Counts = option((), "Batch sizes, separated by commas. [--batch]", panel="Runtime")
    lengths: Counts = option((), "Lengths in tokens, separated by commas. [--length]", panel="Runtime")
    seconds: float = option(1.0, "How long each point is measured.", panel="Runtime", ge=0)
    baseline: bool = option(True, "Also measure the fastest fp32 runtime where it is not among the runtimes.")
    table: bool = option(False, "Build the per-operator latency table of this model, and check it.")
    points: int = option(4, "Sizes per axis of the table.", ge=2)
    shapes: int = option(20, "Random sub-shapes that the table is checked on.", ge=1)


class Bench(Step[BenchOptions]):
    """Latency measurements."""

    name: ClassVar[str] = "bench"
    Options = BenchOptions
    summary: ClassVar[str] = "Measure latency side by side with the parent."
    examples: ClassVar[tuple[str, str]] = (
        "archtool bench small --against MiniLM --runtime onnxruntime,torch --threads 1 --batches 1,8",
        "archtool bench MiniLM --table --threads 1 --length 64",
    )
    writes: ClassVar[bool] = False
    shared: ClassVar[tuple[Shared, ...]] = ("batch", "length", "threads", "dtype", "require")

    def run(self, state: State, options: BenchOptions, context: Context) -> State:
        """Latencies as metrics and records; the table where it is asked for."""
        models, plan = _models(state, options, context), bench_plan(options, context)
        state = _measured(state, models, plan, options, context)
        return _with_table(state, plan, options, context) if options.table else state

    def estimate(self, state: State, options: BenchOptions) -> Estimate:
        """Timed seconds; export and compilation come on top."""
        points = max(1, len(options.runtime)) * max(1, len(options.batches)) * max(1, len(options.lengths))
        table = 10.0 * (2 * options.points + options.shapes) if options.table else 0.0
        return Estimate(seconds=points * options.seconds + table, note="export or compilation not counted")


def bench_plan(options: BenchOptions, context: Context) -> BenchPlan:
    """What to measure, from the options where they say it and the recipe elsewhere."""
    from archtool.measure.compare import BenchPlan
    from archtool.measure.machine import machine

    recipe = context.recipe
    return BenchPlan(
        runtimes=options.runtime or (recipe.runtime,),
        batches=options.batches or (recipe.batch,),
        lengths=options.lengths or (recipe.length,),
        threads=context.threads or machine().cores,
        dtype=context.dtype,
        timing=_timing(options.seconds),
        seed=context.seed,
    )


def _timing(seconds: float) -> Any:
    from archtool.measure.timing import TimingPlan

    return TimingPlan(min_seconds=seconds)


def _models(state: State, options: BenchOptions, context: Context) -> dict[str, Checkpoint]:
    """The parent first, where there is one."""
    parent = state.parent
    if options.against is not None:
        from archtool.model.load import load

        parent = load(options.against)
    if parent is None or parent is state.checkpoint:
        return {CHILD: state.checkpoint}
    return {PARENT: parent, CHILD: state.checkpoint}


def _measured(
    state: State, models: Mapping[str, Checkpoint], plan: BenchPlan, options: BenchOptions, context: Context
) -> State:
    from archtool.measure.compare import (
        bench_models,
        fastest_fp32,
        latency_rows,
        missing_baseline,
        to_records,
    )
    from archtool.measure.machine import machine_peak

    first = next(iter(models))
    results = bench_models(models, plan, context.progress)
    peak = machine_peak(plan.threads)
    rows = latency_rows(results, models, peak)
    extra = missing_baseline(plan) if options.baseline else None
    base = bench_models({first: models[first]}, extra, context.progress) if extra else []
    compared = rows + latency_rows(base, models, peak)
    for row in compared:
        context.log(row.text)
    fastest = fastest_fp32(compared, first) if options.baseline else None
    bench = {
        "rows": to_records(compared),
        "peak": asdict(peak),
        "baseline": asdict(fastest) if fastest else None,
    }
    metrics = {**state.metrics, **_metrics(results[0], fastest, context)}
    records = {
        **state.records,
        "latency": [json.loads(r.to_json()) for r in (*results, *base)],
        "bench": bench,
    }
    return replace(state, metrics=metrics, records=records)


def _metrics(result: LatencyResult, fastest: LatencyRow | None, context: Context) -> dict[str, float]:
    """Numbers of the child at the first point of the first runtime."""
    child = result.get(CHILD)
    found = {"latency_ms": child.median_ms, "latency_p95_ms": child.p95_ms}
    if child.name != result.timings[0].name:
        low, high = 1 / child.ratio.high, 1 / child.ratio.low
        found["speedup"] = 1 / child.ratio.value
        context.log(
            f"speed-up over the parent in {result.runtime}: {found['speedup']:.3f} (95 % {low:.3f} to {high:.3f})"
        )
    if fastest is not None:
        found["speedup_over_fastest_fp32"] = fastest.median_ms / child.median_ms
        context.log(
            f"baseline: {fastest.model} in {fastest.runtime} {fastest.precision}, {fastest.median_ms:.3f} ms; "
            f"speed-up over it: {found['speedup_over_fastest_fp32']:.3f}"
        )
    return found


def _with_table(state: State, plan: BenchPlan, options: BenchOptions, context: Context) -> State:
    """The latency table of the first runtime, batch and length: built or extended, checked, recorded."""
    from archtool.measure.cases import Grid, Workload, grid_cases, model_case
    from archtool.measure.inputs import input_length
    from archtool.measure.subshapes import calibration_shapes, random_subshapes
    from archtool.measure.table import LatencyTable

    arch, seed = state.checkpoint.architecture, context.seed
    work = Workload(plan.batches[0], input_length(arch, plan.lengths[0]), seed)
    timing = replace(plan.timing, min_seconds=TABLE_SHARE * options.seconds)
    table = LatencyTable(plan.runtimes[0], plan.threads, work.batch, work.length, dtype=plan.dtype, plan=timing)
    grid = Grid(points=options.points)
    added = table.build(grid_cases(arch, grid, work), context.progress)
    known = calibration_shapes(arch, grid, work.length, seed)
    table.calibrate([model_case(f"model {i}", s, work) for i, s in enumerate(known)], context.progress)
    shapes = random_subshapes(arch, grid, work.length, options.shapes, seed)
    error = table.validate([model_case(f"sub-shape {i}", s, work) for i, s in enumerate(shapes)], context.progress)
    context.log(
        f"latency table of {table.scope.runtime}: {len(table.entries)} entries ({added} new); whole models are "
        f"predicted with a median error of {error.median_pct:.1f} %, p95 {error.p95_pct:.1f} % (n={len(error.rows)})"
    )
    return _table_recorded(
        state,
        error,
        {**asdict(table.scope), "entries": len(table.entries), "new": added, "hash": table.hash()},
    )


def _table_recorded(state: State, error: PredictionError, facts: Mapping[str, Any]) -> State:
    metrics = {"table_error_median_pct": error.median_pct, "table_error_p95_pct": error.p95_pct}
    record = {**facts, **asdict(error), "rows": [asdict(row) for row in error.rows]}
    return replace(state, metrics={**state.metrics, **metrics}, records={**state.records, "latency_table": record})
