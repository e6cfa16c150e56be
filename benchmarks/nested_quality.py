"""Number 1 of nested models: each granularity of a nested model against a twin of its size, trained alone.

On Fashion-MNIST a ViT of 5 blocks x 48, on the bytes of Tiny Shakespeare a GPT-2 of 5 blocks x 48; the ffn layers are
nested at an eighth, a quarter, a half and all of their width. The nested model and each twin see the same number of
steps, batches and settings. What is trained stays in ``runs/nested/`` (``<task>-seed<k>/nested``, ``/twin-<level>``),
is continued where it was interrupted, and serves `nested_extract.py`.

    python benchmarks/nested_quality.py            3 seeds of both tasks, about 0.7 core-hours
    python benchmarks/nested_quality.py --quick    one seed, 30 steps: does it run?
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import ROOT, NoData, arguments, emit, shared, skip

from archtool.train.sampling import Rule

RUNS = ROOT / "runs" / "nested"
LEVELS = (0.125, 0.25, 0.5, 1.0)
SEEDS = (0, 1, 2)
FFN = 192
RULE: Rule = "all"
CHOOSING = 2048
EVALUATIONS = 51


@dataclass(frozen=True)
class Task:
    """What is trained and what judges it.

    Attributes:
        name: in folders and claims.
        kind: of the data.
        data: the recipe's section; its path is below the shared data.
        build: family and configuration of the whole model.
        width: the configuration's key of the ffn width.
        train: the training's settings, the same for all; ``augment``: how images change.
        metric: what is compared, and ``higher`` whether more is better.
        scale: 100 for points of accuracy; 0: differences are shares of the twin's value, in per cent.
    """

    name: str
    kind: str
    data: Mapping[str, Any]
    build: Mapping[str, Any]
    width: str
    train: Mapping[str, Any]
    metric: str
    higher: bool
    scale: float
    augment: Mapping[str, Any] = field(default_factory=dict)

    def worse_by(self, value: float, than: float) -> float:
        """How much worse a value is, in points or per cent; negative where it is better."""
        behind = than - value if self.higher else value - than
        return behind * self.scale if self.scale else 100 * behind / than


FASHION = Task(
    name="fashion",
    kind="image-classification",
    data={"path": "fashion_mnist", "split": "test"},
    build={
        "family": "vit",
        "config": {
            "architectures": ["ViTForImageClassification"], "image_size": 28, "patch_size": 7, "num_channels": 1,
            "hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": FFN,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6, "initializer_range": 0.12, "num_labels": 10,
        },
    },
    width="intermediate_size",
    train={"steps": 1500, "batch_size": 64, "lr": 2e-3},
    metric="accuracy", higher=True, scale=100.0, augment={"shift": 1, "flip": True},
)  # fmt: skip

SHAKESPEARE = Task(
    name="shakespeare",
    kind="lm",
    data={
        "path": "tinyshakespeare", "split": "test", "fractions": [0.9, 0.0, 0.1],
        "preprocess": {"tokenizer": "bytes", "length": 64},
    },
    build={
        "family": "gpt2",
        "config": {
            "architectures": ["GPT2LMHeadModel"], "vocab_size": 256, "n_positions": 128, "n_embd": 48, "n_layer": 5,
            "n_head": 4, "n_inner": FFN, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.06, "tie_word_embeddings": True,
        },
    },
    width="n_inner",
    train={"steps": 1000, "batch_size": 16, "lr": 2e-3, "weight_decay": 0.1},
    metric="loss", higher=False, scale=0.0,
)  # fmt: skip

TASKS = (FASHION, SHAKESPEARE)


def main() -> None:
    """Train what is missing, judge every granularity, print the claims of each task."""
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=[task.name for task in TASKS], help="one task")
    asked = parser.parse_args()
    for task in [t for t in TASKS if asked.only in (None, t.name)]:
        try:
            root, seeds = (RUNS / "quick", SEEDS[:1]) if asked.quick else (RUNS, SEEDS)
            report(task, [one_seed(task, root / f"{task.name}-seed{seed}", seed, asked.quick) for seed in seeds])
        except NoData as why:
            skip([f"nested.1.{task.name}.{name}" for name in (*map("level{}".format, range(4)), "mixed")], why)


def one_seed(task: Task, folder: Path, seed: int, quick: bool) -> dict[str, list[float]]:
    """Train the nested model and its twins, and judge them."""
    trained(task, folder / "nested", seed, FFN, {"units": ("ffn",), "levels": LEVELS}, quick)
    for level in LEVELS:
        trained(task, folder / f"twin-{level:g}", seed, round(FFN * level), {}, quick)
    return judged(task, folder)


def trained(task: Task, out: Path, seed: int, ffn: int, nested: Mapping[str, Any], quick: bool) -> None:
    """Train with the product's loop; a finished model is only looked up, an interrupted one continued."""
    if (out / "model").is_dir():
        return
    from archtool.config.preset import build_model
    from archtool.export.model import export_model
    from archtool.train.augment import Augment
    from archtool.train.run import train
    from archtool.train.sampling import Sampling
    from archtool.train.settings import TrainSettings
    from archtool.transforms.nesting import nesting_of

    print(out.relative_to(ROOT), file=sys.stderr, flush=True)
    model = build_model({**task.build, "config": {**task.build["config"], task.width: ffn}}, seed)
    if nested:
        model = replace(model, nesting=nesting_of(model.architecture, nested["units"], nested["levels"]))
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    settings = TrainSettings(**{**task.train, **({"steps": 30} if quick else {})}, seed=seed)
    made, _ = train(
        model, examples(task, "train"), settings, sampling=Sampling(RULE) if nested else None,
        work=work, augment=Augment(**task.augment), threads=1,
    )  # fmt: skip
    export_model(made, out / "model")


def judged(task: Task, folder: Path) -> dict[str, list[float]]:
    """Every granularity and its twin on the test data, and extracted mixed widths beside the line between them."""
    from archtool.ir.nesting import uniform
    from archtool.model.apply import apply
    from archtool.model.load import load

    nested = load(folder / "nested" / "model")
    choosing, judging = held_out(task)
    members = [uniform(nested.nesting, i) for i in range(len(LEVELS))]
    models = [apply(nested, member.edit(nested.architecture, "uniform")) for member in members]
    values = [measured(task, model, judging) for model in models]
    sizes = [parameters(model) for model in models]
    mixed = [apply(nested, choice.edit(nested.architecture, "mixed")) for choice in mixes(nested, sizes, choosing)]
    return {
        "uniform": values,
        "twin": [measured(task, load(folder / f"twin-{level:g}" / "model"), judging) for level in LEVELS],
        "mixed": [measured(task, model, judging) for model in mixed],
        "line": [between(sizes, values, parameters(model)) for model in mixed],
    }


def mixes(nested: Any, sizes: Sequence[float], data: Any) -> list[Any]:
    """What extraction finds at three budgets between each two neighbouring granularities."""
    from archtool.budget.language import Budget, Limit
    from archtool.evaluate import evaluate
    from archtool.model.apply import apply
    from archtool.model.costs import compute_costs
    from archtool.model.views import Family
    from archtool.transforms.extract.grid import grid_of
    from archtool.transforms.extract.pricing import Pricing
    from archtool.transforms.extract.search import search

    arch, grid = nested.architecture, grid_of(nested.nesting, nested.architecture)
    family = Family(nested.module(), nested.nesting)

    def loss(picks: Any) -> float:
        with family.member(grid.submodel(picks)).running() as module:
            return float(evaluate(module, data.task, data, batch_size=256).values["loss"])

    def costs(picks: Any) -> Mapping[str, float]:
        return compute_costs(apply(nested, grid.submodel(picks).edit(arch, "mixed")))

    limits = [a + (b - a) * part for a, b in pairwise(sizes) for part in (0.25, 0.5, 0.75)]
    budgets = [Budget((Limit("params", limit),)) for limit in limits]
    found = search(grid, budgets, Pricing(grid, costs, ("parameters",)), loss, "solver", EVALUATIONS)
    return [grid.submodel(picks) for picks in found.best]


def between(sizes: Sequence[float], values: Sequence[float], size: float) -> float:
    """The value at a size on the line through the uniform granularities."""
    import numpy as np

    return float(np.interp(size, sizes, values))


def parameters(model: Any) -> float:
    """Parameters of a checkpoint."""
    from archtool.ir.cost import cost

    return float(cost(model.architecture).parameters)


def examples(task: Task, split: str) -> Any:
    """The examples of a split."""
    from archtool.config.recipe import Recipe
    from archtool.run.inputs import evaluation_data, open_checkpoint, training_data

    data = {**task.data, "path": str(shared(task.data["path"]))}
    stated = {"model": {"build": dict(task.build)}, "task": task.kind, "steps": [{"eval": {}}], "data": data}
    recipe = Recipe.model_validate(stated)
    checkpoint = open_checkpoint(recipe)
    assert checkpoint is not None
    return evaluation_data(recipe, checkpoint) if split == "test" else training_data(recipe, checkpoint, split)


def held_out(task: Task) -> tuple[Any, Any]:
    """What mixed widths are chosen on, and what everything is judged on; text has no third part, so its test is cut."""
    import numpy as np

    from archtool.data import calibration

    judging = examples(task, "test")
    if task.kind != "lm":
        return calibration(examples(task, "val"), CHOOSING), judging
    rows = np.arange(len(judging))
    return calibration(judging.select(rows[: len(rows) // 2]), CHOOSING // 8), judging.select(rows[len(rows) // 2 :])


def measured(task: Task, model: Any, data: Any) -> float:
    """The metric of a checkpoint."""
    from archtool.evaluate import evaluate

    return float(evaluate(model.module(), task.kind, data, batch_size=256).values[task.metric])


def report(task: Task, seeds: Sequence[Mapping[str, list[float]]]) -> None:
    """The claims of a task, over its seeds."""
    for level in range(len(LEVELS)):
        behind = [task.worse_by(s["uniform"][level], s["twin"][level]) for s in seeds]
        means = [statistics.mean(s[kind][level] for s in seeds) for kind in ("uniform", "twin")]
        emit(
            f"nested.1.{task.name}.level{level}",
            round(statistics.mean(behind), 4),
            spread=round(max(behind) - min(behind), 4),
            seeds=len(seeds),
            note=f"ffn x {LEVELS[level]:g}: {task.metric} {means[0]:.4f} nested, {means[1]:.4f} trained alone",
        )
    below = [statistics.mean(map(task.worse_by, s["mixed"], s["line"])) for s in seeds]
    emit(
        f"nested.1.{task.name}.mixed",
        round(statistics.mean(below), 4),
        spread=round(max(below) - min(below), 4),
        seeds=len(seeds),
        note=f"{len(seeds[0]['mixed'])} budgets a seed between the granularities, chosen on held-out examples",
    )


if __name__ == "__main__":
    main()
