"""MiniLM's shape in every installed runtime, against transformers' own model in eager PyTorch.

All runtimes of the same process take turns with transformers; the claim is the ratio of medians (above 1:
faster than transformers in eager fp32), the best of them is the baseline that archtool compares with.

    python benchmarks/bench_minilm.py --threads 1 --length 64
    python benchmarks/bench_minilm.py --quick
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from shapes import minilm
from torch import Tensor, nn

from archtool.builtins import RUNTIMES
from archtool.errors import ArchtoolError
from archtool.measure.inputs import example_inputs
from archtool.measure.latency import LatencyResult, Point, measure_sessions
from archtool.measure.runtimes import get_runtime
from archtool.measure.timing import TimingPlan

AGREE = 1e-4
"""Largest difference between a runtime's hidden states and transformers'."""


class Transformers(nn.Module):
    """transformers' model under archtool's call contract."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The last hidden state."""
        return {"hidden": self.model(**inputs).last_hidden_state}


def main() -> None:
    """Print every claim."""
    given = arguments()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, stock = minilm(Path(folder), given.quick)
        inputs = example_inputs(checkpoint.architecture, given.batch, given.length, given.seed)
        module = checkpoint.module()
        for runtime in given.runtimes.split(",") if given.runtimes else installed():
            try:
                report(runtime, compare(runtime, module, Transformers(stock).eval(), inputs, given), given)
            except ArchtoolError as problem:
                print(f"{runtime}: not measured: {problem.what}")


def installed() -> list[str]:
    """The runtimes whose package is here."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name.partition("-")[0])]


def compare(
    runtime: str, module: nn.Module, stock: nn.Module, inputs: Mapping[str, Tensor], given: argparse.Namespace
) -> LatencyResult:
    """Transformers in eager PyTorch and archtool in ``runtime``, in turns, after checking that they agree."""
    engine = get_runtime(runtime)
    sessions = {
        "transformers": get_runtime("torch").prepare(stock, inputs, given.threads),
        "archtool": engine.prepare(module, inputs, given.threads),
    }
    try:
        expected, found = (torch.from_numpy(s.run(inputs)["hidden"]) for s in sessions.values())
        difference = float((expected - found).abs().max())
        if difference > AGREE:
            raise SystemExit(f"{runtime}: hidden states differ by {difference:.2e} from transformers'")
        plan = TimingPlan(min_rounds=5 if given.quick else 50, min_seconds=0.0 if given.quick else given.seconds)
        point = Point(given.threads, given.batch, given.length)
        return measure_sessions(sessions, inputs, engine, point, plan=plan, seed=given.seed)
    finally:
        for session in sessions.values():
            session.close()


def report(runtime: str, result: LatencyResult, given: argparse.Namespace) -> None:
    """Both medians for people, then the claim."""
    stock, ours = result.timings
    print(
        f"{runtime} {result.runtime_version} ({ours.precision}), {result.threads} threads, batch {result.batch}, "
        f"length {result.length}: {ours.median_ms:.3f} ms, p95 {ours.p95_ms:.3f} ms; "
        f"transformers eager: {stock.median_ms:.3f} ms"
    )
    record = {
        "claim": f"bench-minilm.{runtime}.speedup_over_transformers_eager",
        "value": round(1 / ours.ratio.value, 3),
        "low": round(1 / ours.ratio.high, 3),
        "high": round(1 / ours.ratio.low, 3),
        "n": result.n,
        "quick": given.quick,
    }
    print(json.dumps(record))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtimes", default="", help="separated by commas [all that are installed]")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each comparison")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few samples: does it run?")
    return parser.parse_args()


if __name__ == "__main__":
    main()
