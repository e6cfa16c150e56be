"""How well the per-operator latency table predicts whole models.

Builds the table of MiniLM's and ViT-S's layers on this machine, predicts random sub-shapes (fewer blocks,
narrower heads and FFNs per block), measures them, and prints the error and one JSON line per claim.

    python benchmarks/latency_table.py --runtimes onnxruntime,torch --shapes 20
    python benchmarks/latency_table.py --quick
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from shapes import minilm, vit

from archtool.ir.architecture import Architecture
from archtool.measure.cases import Grid, Workload, grid_cases, model_case
from archtool.measure.inputs import input_length
from archtool.measure.store import LatencyStore
from archtool.measure.subshapes import calibration_shapes, random_subshapes
from archtool.measure.table import LatencyTable, PredictionError
from archtool.measure.timing import TimingPlan

MODELS = {"minilm": minilm, "vit": vit}


def main() -> None:
    """Print every claim."""
    given = arguments()
    for name in given.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, _ = MODELS[name](Path(folder), given.quick)
            for runtime in given.runtimes.split(","):
                report(name, runtime, predict(checkpoint.architecture, runtime, given), given)


def predict(arch: Architecture, runtime: str, given: argparse.Namespace) -> PredictionError:
    """Build the table (kept in ``--store``) and check it."""
    work, grid = (
        Workload(1, input_length(arch, given.length), given.seed),
        Grid(points=2 if given.quick else 4),
    )
    with tempfile.TemporaryDirectory() as folder:
        store = LatencyStore(given.store or Path(folder) / "latency.sqlite")
        plan = TimingPlan(min_seconds=0.02 if given.quick else given.seconds)
        table = LatencyTable(runtime, given.threads, 1, work.length, store=store, plan=plan)
        table.build(grid_cases(arch, grid, work))
        known = calibration_shapes(arch, grid, work.length, given.seed)
        table.calibrate([model_case(f"model {i}", shape, work) for i, shape in enumerate(known)])
        count = min(3, given.shapes) if given.quick else given.shapes
        shapes = random_subshapes(arch, grid, work.length, count, given.seed)
        return table.validate([model_case(f"sub-shape {i}", shape, work) for i, shape in enumerate(shapes)])


def report(name: str, runtime: str, error: PredictionError, given: argparse.Namespace) -> None:
    """A table for people, then the claims."""
    print(f"{name} in {runtime}, {given.threads} threads, batch 1, length {given.length}")
    for row in error.rows:
        times = f"predicted {row.predicted_ms:.3f} ms, measured {row.measured_ms:.3f} ms"
        print(f"  {row.name}: {times}, {row.error_pct:+.1f} %")
    for part, value in (("median", error.median_pct), ("p95", error.p95_pct)):
        claim = f"latency-table.{name}.{runtime}.error_{part}_pct"
        print(json.dumps({"claim": claim, "value": round(value, 2), "n": len(error.rows), "quick": given.quick}))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="minilm,vit", help="of minilm, vit")
    parser.add_argument("--runtimes", default="onnxruntime,torch")
    parser.add_argument("--shapes", type=int, default=20, help="random sub-shapes per model")
    parser.add_argument("--length", type=int, default=64, help="tokens (images have their own size)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each timing window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="keep the table in this file [a new one every time]")
    parser.add_argument("--quick", action="store_true", help="tiny models and few samples: does it run?")
    return parser.parse_args()


if __name__ == "__main__":
    main()
