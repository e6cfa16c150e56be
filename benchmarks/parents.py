"""Trains the shared parents once, through the product, and keeps them as bf16 in ``benchmarks/parents/``.

Each is a recipe of ``recipes/parents``. A killed training continues where it was; a parent that is done, by the
same recipe, is only reported. ``parents.json`` says of each what it is: the hash of its file, its recipe, its
accuracy or loss as kept (bf16) and before (fp32), seconds and seed.

    python benchmarks/parents.py --train           what is not done yet (about 4 core-hours for all)
    python benchmarks/parents.py --train --only vit-a
    python benchmarks/parents.py                   what is kept, measured when it was trained; nothing is trained
    python benchmarks/parents.py --quick           a few steps of each, in a temporary folder: does it run?
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from common import HERE, ROOT, NoData, archtool, arguments, emit, shared, skip

KEPT = HERE / "parents"
RECIPES = ROOT / "recipes" / "parents"
RUNS = ROOT / "runs" / "parents"
QUICK = ("data.limit=200", "steps.0.train.steps=10")
LARGEST_BYTES = 2_000_000


def main() -> None:
    """Train what is asked for and print a claim for each parent."""
    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="NAME", help="one parent")
    parser.add_argument("--train", action="store_true", help="train those that are not there yet")
    asked = parser.parse_args()
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if asked.only and asked.only not in names:
        parser.error(f"there is no parent {asked.only}; there are {', '.join(names)}")
    for name in [asked.only] if asked.only else names:
        try:
            if asked.quick:
                report(name, try_out(name), asked.quick)
            elif asked.train or current(name):
                report(name, parent(name), asked.quick)
            else:
                why = f"not trained yet: python benchmarks/parents.py --train --only {name}"
                print(json.dumps({"claim": claim_id(name), "value": None, "error": why}))
        except NoData as why:
            skip([claim_id(name)], why)


def parent(name: str) -> dict[str, Any]:
    """The facts of a parent; it is trained where it is not there yet or its recipe has changed."""
    made = current(name)
    if made:
        return made
    made = train(name, RUNS / name, KEPT / name)
    KEPT.mkdir(exist_ok=True)
    text = json.dumps(read_facts() | {name: made}, indent=1, sort_keys=True) + "\n"
    (KEPT / "parents.json").write_text(text, encoding="utf-8")
    return made


def current(name: str) -> dict[str, Any] | None:
    """The facts of a parent that is kept, whole and of its present recipe."""
    made: dict[str, Any] | None = read_facts().get(name)
    same = made and made["recipe_sha256"] == digest(RECIPES / f"{name}.yaml") and intact(name, made)
    return made if same else None


def try_out(name: str) -> dict[str, Any]:
    """A few steps, in a folder that goes."""
    with tempfile.TemporaryDirectory() as scratch:
        return train(name, Path(scratch) / "run", Path(scratch) / name, QUICK)


def train(name: str, run: Path, kept: Path, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the recipe, keep its model as bf16, measure what is kept."""
    recipe = RECIPES / f"{name}.yaml"
    text = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    changes = (f"data.path={shared(text['data']['path'])}", *settings)
    words = [word for change in changes for word in ("--set", change)]
    print(f"{name}: {recipe.relative_to(ROOT)}", file=sys.stderr)
    found = archtool("run", recipe, *words, "--out", run, "--json").json()
    weights = keep_as_bf16(run / "model", kept)
    metric = metric_of(name)
    result = json.loads((run / "result.json").read_text())
    return {
        "recipe": recipe.relative_to(ROOT).as_posix(),
        "recipe_sha256": digest(recipe),
        "seed": text["seed"],
        "parameters": int(found["parameters"]),
        "seconds": round(sum(step["seconds"] for step in result["steps"]), 1),
        "metric": metric,
        "fp32": found[metric],
        "bf16": evaluated(kept, text, changes, run.parent)[metric],
        **weights,
    }


def keep_as_bf16(model: Path, folder: Path) -> dict[str, Any]:
    """Write a model with all its tensors as bf16; hash and bytes of the file."""
    import torch

    from archtool.export.model import export_model
    from archtool.model.lazy import Held
    from archtool.model.lazy import load as values
    from archtool.model.load import load

    checkpoint = load(model)
    weights = {name: Held(values(lazy).to(torch.bfloat16)) for name, lazy in checkpoint.weights.items()}
    source = replace(checkpoint.source, config={**checkpoint.source.config, "dtype": "bfloat16"})
    exported = export_model(replace(checkpoint, weights=weights, source=source), folder, force=True)
    (file,) = exported.weights.values()
    if file.size_bytes > LARGEST_BYTES:
        raise RuntimeError(f"{folder.name} takes {file.size_bytes} bytes; {LARGEST_BYTES} are allowed")
    return {"sha256": file.sha256, "size_bytes": file.size_bytes}


def evaluated(model: Path, recipe: dict[str, Any], changes: tuple[str, ...], scratch: Path) -> dict[str, Any]:
    """The metrics of a model on the data of a recipe, with the changes that the run had."""
    kept = {key: value for key, value in recipe.items() if key not in ("model", "steps")}
    path = scratch / f"{model.name}-eval.yaml"
    path.write_text(yaml.safe_dump({"model": str(model), **kept, "steps": [{"eval": {}}]}), encoding="utf-8")
    words = [word for change in changes if change.startswith("data.") for word in ("--set", change)]
    metrics: dict[str, Any] = archtool("run", path, *words, "--json").json()
    path.unlink()
    return metrics


def read_facts() -> dict[str, Any]:
    """``parents.json``."""
    path = KEPT / "parents.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def intact(name: str, facts: dict[str, Any]) -> bool:
    """Whether the kept file is the one that was written."""
    file = KEPT / name / "model.safetensors"
    return file.is_file() and facts["sha256"].removeprefix("sha256:") == digest(file)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metric_of(name: str) -> str:
    """What a parent is judged by."""
    return "accuracy" if name.startswith("vit") else "loss"


def claim_id(name: str) -> str:
    """The claim of a parent."""
    return f"parents.{name}.{metric_of(name)}"


def report(name: str, facts: dict[str, Any], quick: bool) -> None:
    """Print the claim; a quick try-out has no value to compare."""
    trained = f"seed {facts['seed']}, {facts['seconds']:g} s of training"
    note = f"{trained}, {facts['size_bytes']} bytes, fp32 {facts['fp32']:.4f}"
    if quick:
        print(f"{name}: ran; {note}", file=sys.stderr)
        skip([claim_id(name)], "the quick form only tries a few steps")
    else:
        emit(claim_id(name), facts["bf16"], note=note)


if __name__ == "__main__":
    main()
