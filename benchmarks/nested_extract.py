"""Extraction against brute force over all submodels, and the extracted models against parent and separate twins.

For each seed all submodels of a nested model are measured on held-out examples; then 24 budgets are solved together
with at most 5 % of these measurements, beside the uniform choice, MatFormer's heuristic and random choices. Extracted
models are written, read back, and compared with the parent on views, with the masked parent and in a fresh process;
those of uniform size agree with the parent more, or less, than twins that were trained alone.

    python benchmarks/nested_extract.py --quick    one small ViT on scikit-learn's digits, trained here, and two twins
    python benchmarks/nested_extract.py            what `nested_quality.py` left in runs/nested, 3 seeds
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from common import ROOT, NoData, archtool, arguments, emit, environment, shared, skip

RUNS = ROOT / "runs" / "nested"
SEEDS = (0, 1, 2)
TASKS: Mapping[str, Mapping[str, Any]] = {
    "fashion": {"source": "fashion_mnist", "task": "image-classification"},
    "shakespeare": {"source": "tinyshakespeare", "task": "lm", "fractions": (0.9, 0.0, 0.1)},
}
LEVELS = (0.125, 0.25, 0.5, 1.0)
BUDGETS = 24
SHARE = 0.05
EXAMPLES = {"image-classification": 512, "lm": 192}
"""Most examples that a submodel is measured on."""

RANDOM = 200
EXTRACTED = 4
NUMBERS = {
    "2": ("exact_share", "mean_regret_pct", "evaluations_share", "matformer_regret_pct", "uniform_regret_pct",
          "random_regret_pct"),
    "3": ("views_max_rel_diff", "masked_max_rel_diff", "fresh_max_rel_diff", "bytes_off", "twin_kl_over_extracted",
          "top1_gain"),
}  # fmt: skip
WORST = ("evaluations_share", "views_max_rel_diff", "masked_max_rel_diff", "fresh_max_rel_diff", "bytes_off")
"""What is the largest over seeds; the others are means."""

FRESH = """
import sys, torch
from archtool.model.load import load
feed, expected = torch.load(sys.argv[2])
with torch.no_grad():
    made = load(sys.argv[1]).module()(**feed)
print(max(float((made[n] - v).abs().max() / v.abs().max()) for n, v in expected.items()))
"""


def main() -> None:
    """Print the claims of each task."""
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=list(TASKS), help="one task")
    asked = parser.parse_args()
    if asked.quick:
        with tempfile.TemporaryDirectory() as scratch:
            report("fashion", [judged(*digits(Path(scratch)))], 1, "the short form: scikit-learn's digits instead")
        skip(named("shakespeare"), "the short form has digits alone")
        return
    for task in [t for t in TASKS if asked.only in (None, t)]:
        try:
            found = [judged(*left_by_quality(task, seed)) for seed in SEEDS]
            report(task, found, len(SEEDS))
        except NoData as why:
            skip(named(task), why)


def named(task: str) -> list[str]:
    """The claims of a task."""
    return [f"nested.{number}.{task}.{name}" for number, names in NUMBERS.items() for name in names]


def report(task: str, found: Sequence[Mapping[str, float]], seeds: int, note: str = "") -> None:
    """The claims over seeds."""
    for number, names in NUMBERS.items():
        for name in names:
            values = [one[name] for one in found]
            value = max(values) if name in WORST else statistics.mean(values)
            emit(f"nested.{number}.{task}.{name}", value, spread=max(values) - min(values), seeds=seeds, note=note)


def left_by_quality(task: str, seed: int) -> tuple[Path, Mapping[str, Path], Any, Any]:
    """The nested model, its twins by level, and the data to choose and to judge on."""
    folder = RUNS / f"{task}-seed{seed}"
    if not (folder / "nested" / "model").is_dir():
        raise NoData(f"no model: run benchmarks/nested_quality.py first ({folder.relative_to(ROOT)} is missing)")
    twins = {f"{level:g}": folder / f"twin-{level:g}" / "model" for level in LEVELS[:-1]}
    spec = {**TASKS[task], "source": str(shared(TASKS[task]["source"]))}
    nested = folder / "nested" / "model"
    if task == "shakespeare":  # its training used all but the test part: the first half of that chooses
        whole = data_of({**spec, "split": "test"}, nested)
        half = range(len(whole) // 2)
        return nested, twins, some(whole, list(half)), some(whole, [i + len(half) for i in half])
    chosen, judge = ({**spec, "split": split} for split in ("val", "test"))
    return nested, twins, data_of(chosen, nested), data_of(judge, nested)


def digits(folder: Path) -> tuple[Path, Mapping[str, Path], Any, Any]:
    """A nested ViT on digits and twins of its two narrowest levels, trained by the command line."""
    config = {
        "architectures": ["ViTForImageClassification"], "image_size": 8, "patch_size": 4, "num_channels": 1,
        "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 64,
        "hidden_act": "gelu", "layer_norm_eps": 1e-6, "initializer_range": 0.12, "num_labels": 10,
    }  # fmt: skip
    nesting = {"nested": ["ffn"], "levels": list(LEVELS)}
    trained(folder / "nested", config, {**nesting, "steps": 250})
    twins = {f"{level:g}": folder / f"twin-{level:g}" for level in LEVELS[:2]}
    for name, out in twins.items():
        trained(out, {**config, "intermediate_size": round(64 * float(name))}, {"steps": 250})
    spec = {"source": "sklearn:digits", "task": "image-classification"}
    nested = folder / "nested" / "model"
    parts = (data_of({**spec, "split": split}, nested) for split in ("val", "test"))
    return nested, {name: out / "model" for name, out in twins.items()}, *parts


def trained(out: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """One training on digits."""
    recipe = {
        "model": {"build": {"family": "vit", "config": dict(config)}}, "data": {"path": "sklearn:digits"},
        "task": "image-classification", "seed": 0, "threads": 1,
        "steps": [{"train": {"lr": 2e-3, "batch_size": 64, **settings}}],
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    archtool("run", out.with_suffix(".yaml"), "--out", out, "--json").json()


def data_of(stated: Mapping[str, Any], folder: Path) -> Any:
    """Examples as the model takes them."""
    from archtool.data import DataSpec, TokenPreprocess, load_data

    lm = {"preprocess": TokenPreprocess(tokenizer="bytes", length=64)} if stated["task"] == "lm" else {}
    return load_data(DataSpec(**stated, **lm), folder)


def some(data: Any, rows: Sequence[int]) -> Any:
    """Some examples."""
    import numpy as np

    return data.select(np.array(rows, dtype=np.int64))


def judged(folder: Path, twins: Mapping[str, Path], choosing: Any, judging: Any) -> dict[str, float]:
    """All numbers of one nested model."""
    import torch

    from archtool.data import calibration
    from archtool.model.load import load
    from archtool.transforms.extract.grid import grid_of

    torch.set_num_threads(1)
    whole = load(folder)
    grid = grid_of(whole.nesting, whole.architecture)
    most = EXAMPLES[choosing.task]
    choosing = choosing if len(choosing) <= most else calibration(choosing, most)
    print(f"{len(grid)} submodels on {len(choosing)} examples", file=sys.stderr, flush=True)
    losses = all_losses(whole, grid, choosing)
    searched, best = against_brute_force(whole, grid, losses)
    with tempfile.TemporaryDirectory() as scratch:
        same = extracted(whole, grid, best, Path(scratch), judging)
    return {**searched, **same, **beside_twins(whole, grid, twins, judging)}


def all_losses(whole: Any, grid: Any, data: Any) -> dict[Any, float]:
    """The loss of every submodel on the parent's views."""
    from archtool.evaluate import evaluate
    from archtool.model.views import Family

    family, losses = Family(whole.module(), grid.nesting), {}
    for picks in grid.members():
        with family.member(grid.submodel(picks)).running() as module:
            losses[picks] = evaluate(module, data.task, data, batch_size=128).values["loss"]
    return losses


def against_brute_force(whole: Any, grid: Any, losses: Mapping[Any, float]) -> tuple[dict[str, float], list[Any]]:
    """Regrets over 24 budgets as shares of the range of losses, and the submodels that were found."""
    import numpy as np

    from archtool.budget.language import Budget, Limit
    from archtool.model.apply import apply
    from archtool.model.costs import compute_costs
    from archtool.transforms.extract.pricing import Pricing
    from archtool.transforms.extract.search import baselines, search

    def costs(picks: Any) -> Mapping[str, float]:
        return compute_costs(apply(whole, grid.submodel(picks).edit(whole.architecture, "t")))

    price = Pricing(grid, costs, ("parameters",))
    members = list(losses)
    exact = price.estimate(np.array(members))["parameters"]  # widths of different blocks: costs add exactly
    steps = np.linspace(exact.min(), exact.max(), BUDGETS + 2)[1:-1]
    budgets = [Budget((Limit("params", float(value)),)) for value in steps]
    found = search(grid, budgets, price, lambda picks: losses[picks], "solver", int(SHARE * len(grid)))
    values, spread = np.array([losses[p] for p in members]), max(losses.values()) - min(losses.values())
    rng, rows = np.random.default_rng(0), []
    for budget, limit, best in zip(budgets, steps, found.best, strict=True):
        fits = values[exact <= limit]
        least = fits.min()
        others = {name: losses[picks] for name, picks in baselines(grid, budget, price).items()}
        drawn = rng.choice(fits, RANDOM).mean()
        rows.append([losses[best] - least, others["matformer"] - least, others["uniform"] - least, drawn - least])
    regret = np.array(rows) / spread
    names = ("mean_regret_pct", "matformer_regret_pct", "uniform_regret_pct", "random_regret_pct")
    means = {name: round(100 * float(v), 4) for name, v in zip(names, regret.mean(0), strict=True)}
    share = float((regret[:, 0] <= 1e-12).mean())
    return {"exact_share": share, "evaluations_share": len(found.losses) / len(grid), **means}, list(found.best)


def extracted(whole: Any, grid: Any, best: Sequence[Any], scratch: Path, data: Any) -> dict[str, float]:
    """The largest relative differences of some found models, written and read back, and bytes that are not theirs."""
    import numpy as np
    import torch

    from archtool.data import Batches
    from archtool.export.model import export_model
    from archtool.model.apply import apply
    from archtool.model.load import load
    from archtool.model.masked import masked_parent
    from archtool.model.save import planned_size
    from archtool.model.views import Family

    feed = Batches(data, 8).batch(np.arange(8)).inputs
    arch, found = whole.architecture, {name: 0.0 for name in NUMBERS["3"][:4]}
    for n, picks in enumerate(dict.fromkeys(best[:: max(1, len(best) // EXTRACTED)])):
        edit, folder = grid.submodel(picks).edit(arch, "extract"), scratch / str(n)
        written = export_model(apply(whole, edit), folder)
        with torch.no_grad(), Family(whole.module(), grid.nesting).member(grid.submodel(picks)).running() as module:
            views = module(**feed)
        with torch.no_grad():
            made, masked = load(folder).module()(**feed), masked_parent(whole.module(), edit)(**feed)
        torch.save((dict(feed), dict(views)), scratch / "feed.pt")
        command = [sys.executable, "-c", FRESH, str(folder), str(scratch / "feed.pt")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
        these = (apart(made, views), apart(made, masked), float(done.stdout))
        for name, value in zip(NUMBERS["3"], (*these, written.size_bytes - planned_size(load(folder))), strict=False):
            found[name] = max(found[name], abs(value))
    return found


def apart(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest difference of two models' outputs, relative to the largest value."""
    return max(float((ours[name] - v).abs().max() / v.abs().max()) for name, v in theirs.items())


def beside_twins(whole: Any, grid: Any, twins: Mapping[str, Path], data: Any) -> dict[str, float]:
    """How much nearer the parent the uniform submodels are than twins of their size, over the levels."""
    from archtool.evaluate import evaluate
    from archtool.ir.nesting import uniform
    from archtool.model.apply import apply
    from archtool.model.load import load

    parent, gains, ratios = whole.module(), [], []
    for level, twin in enumerate(twins.values()):
        small = apply(whole, uniform(whole.nesting, level).edit(whole.architecture, "t")).module()
        ours, theirs = (
            evaluate(model, "agreement", data, batch_size=128, parent=parent).values
            for model in (small, load(twin).module())
        )
        gains.append(ours["top1_match"] - theirs["top1_match"])
        ratios.append(theirs["kl"] / ours["kl"])
    return {"twin_kl_over_extracted": statistics.mean(ratios), "top1_gain": statistics.mean(gains)}


if __name__ == "__main__":
    main()
