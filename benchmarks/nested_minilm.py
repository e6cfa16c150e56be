"""Nested, item 5: all-MiniLM-L6-v2 made nested with unlabeled sentences: four sizes, judged on STS-B dev.

The calibration file holds the sentences of STS-B's train split with every score set to 0, so that none can be used.
What is claimed is order and allocation alone, with several calibration seeds. ``--train N`` prints also what N steps of
``archtool nest`` make of it; ``--test`` looks at the test split instead, once, at the end.

python benchmarks/nested_minilm.py            # 3 calibration seeds
python benchmarks/nested_minilm.py --quick    # one seed
"""

from __future__ import annotations

import csv
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from common import NoData, archtool, arguments, emit, minilm_folder, shared, skip

LEVELS = (0.6, 0.75, 0.9, 1.0)
KINDS = ("ffn", "heads")
SEEDS = (0, 1, 2)
NAMES = ("largest_drop", *(f"spearman_{level:g}" for level in LEVELS[:-1]))


def main() -> None:
    """Print every claim."""
    parser = arguments(__doc__)
    parser.add_argument("--test", action="store_true", help="judge on the test split instead")
    parser.add_argument("--train", type=int, default=0, metavar="N", help="also train N steps, by the command line")
    asked = parser.parse_args()
    try:
        folder, judge = minilm_folder(), shared("stsb", f"stsb-en-{'test' if asked.test else 'dev'}.csv")
        train = shared("stsb", "stsb-en-train.csv")
    except NoData as why:
        skip((f"nested.5.order.{name}" for name in NAMES), why)
        return
    with tempfile.TemporaryDirectory() as scratch:
        sentences = unlabeled(train, Path(scratch) / "sentences.csv")
        dense = in_order(folder, sentences, judge, SEEDS[:1] if asked.quick else SEEDS)
        if asked.train:
            trained(folder, sentences, judge, Path(scratch) / "nested", asked.train, dense)


def unlabeled(source: Path, out: Path) -> Path:
    """The sentence pairs of a similarity file, every score 0."""
    with source.open(encoding="utf-8", newline="") as read, out.open("w", encoding="utf-8", newline="") as write:
        rows = [(first, second, 0) for first, second, *_ in csv.reader(read)]
        csv.writer(write).writerows([("sentence1", "sentence2", "score"), *rows])
    return out


def in_order(folder: Path, sentences: Path, judge: Path, seeds: tuple[int, ...]) -> float:
    """Order and allocation alone, by calibration seed; returns the dense model's Spearman correlation."""
    from archtool.evaluate import evaluate
    from archtool.model.load import load
    from archtool.run.inputs import pooling_of

    checkpoint = load(folder)
    pooling, data = pooling_of(checkpoint), pairs(judge, folder)

    def spearman(model: Any) -> float:
        return float(evaluate(model.module(), "similarity", data, pooling=pooling)["spearman"])

    dense = spearman(checkpoint)
    found: list[list[float]] = []
    seconds = []
    for seed in seeds:
        begun = time.perf_counter()
        submodels = nested_by_order(checkpoint, pairs(sentences, folder), pooling, seed)
        seconds.append(time.perf_counter() - begun)
        found.append([spearman(model) for model in submodels])
    for level, values in zip(LEVELS, zip(*found, strict=True), strict=False):
        emit(f"nested.5.order.spearman_{level:g}", statistics.mean(values), **over(values))
    drops = [100 * (dense - min(row)) for row in found]
    note = f"dense {dense:.4f}; {statistics.mean(seconds):.0f} s a seed"
    emit("nested.5.order.largest_drop", statistics.mean(drops), note=note, **over(drops))
    return dense


def over(values: Any) -> dict[str, float]:
    """The spread and number of seeds."""
    return {"spread": max(values) - min(values), "seeds": len(values)}


def pairs(file: Path, folder: Path) -> Any:
    """A similarity file as data."""
    from archtool.data import DataSpec, load_data

    return load_data(DataSpec(str(file), task="similarity"), folder)


def nested_by_order(checkpoint: Any, calibration: Any, pooling: Any, seed: int) -> list[Any]:
    """The submodels of the levels, smallest first, without the whole."""
    from archtool.curvature.collect import Collection
    from archtool.evaluate.pooling import pool
    from archtool.model.apply import apply
    from archtool.transforms.extract.order import order_edit, orders, reordered
    from archtool.transforms.nested_levels import allocated_levels, fraction_levels
    from archtool.transforms.nesting import nesting_of
    from archtool.transforms.prune.criteria.base import Evidence, criterion
    from archtool.transforms.units import unit_axes

    arch = checkpoint.architecture
    evidence = Evidence(calibration, Collection(seed=seed), partial(pool, pooling=pooling))
    scores = criterion("fisher")(checkpoint, unit_axes(arch, KINDS), evidence)
    edit = order_edit(arch, scores)
    nesting = nesting_of(arch, KINDS, LEVELS)
    rows, uniform = reordered(orders(edit), scores), fraction_levels(nesting, arch, LEVELS)
    _, levels = allocated_levels(nesting, uniform, arch, rows, LEVELS)
    ordered = apply(checkpoint, edit)
    return [apply(ordered, level.edit(arch, "level")) for level in levels[:-1]]


def trained(folder: Path, sentences: Path, judge: Path, out: Path, steps: int, dense: float) -> None:
    """``archtool nest`` with a short training, and what each level is worth after it."""
    done = archtool(
        "nest", folder, "--units", ",".join(KINDS), "--levels", ",".join(map(str, LEVELS)), "--allocation", "exact",
        "--steps", str(steps), "--task", "similarity", "--data", judge, "--set", f"data.train={sentences}",
        "--threads", "1", "--out", out, "--json",
    )  # fmt: skip
    done.json()
    rows = json.loads((out / "result.json").read_text(encoding="utf-8"))["records"]["nest"]["levels"]
    found = [row["metrics"]["nested"]["spearman"]["value"] for row in rows]
    plain = rows[0]["metrics"]["plain prefix"]["spearman"]["value"]
    for level, value in zip(LEVELS, found, strict=True):
        emit(f"nested.5.trained.spearman_{level:g}", value, seeds=1)
    note = f"{steps} steps; the plain prefix of 60 % has {plain:.4f}"
    emit("nested.5.trained.largest_drop", 100 * (dense - min(found)), seeds=1, note=note)
    emit("nested.5.trained.minutes", done.seconds / 60, note="1 thread, evaluation of every level included")


if __name__ == "__main__":
    main()
