"""From a finished run directory to its `Report`: nothing is measured here, everything is read from the run's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from archtool.report import (
    BudgetCheck,
    Candidate,
    Command,
    ExportCheck,
    LatencySample,
    LayerRow,
    Metric,
    PredictedPair,
    Prediction,
    Provenance,
    Report,
    Search,
    Skipped,
    Snapshot,
    StepRecord,
    TensorRow,
    latency_sample,
)  # fmt: skip

STRUCTURES = ("kv", "group", "qk", "pairs", "v", "hidden", "inner", "state", "rank")
SAID = ("parameters", "size_bytes", "accuracy", "spearman", "perplexity", "loss", "mse", "latency_ms")
"""Metrics that a step's summary tells, where they changed."""
LABELS = {"kv": "heads", "group": "queries per head", "hidden": "ffn", "pairs": "qk pairs"}


def build_report(folder: Path) -> Report:
    """The report of a run directory with ``result.json`` and ``provenance.json``."""
    import yaml

    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    records = result["records"]
    child, parent = records.get("child", {}), records.get("parent", {})
    recipe = yaml.safe_load((folder / "recipe.lock.yaml").read_text(encoding="utf-8"))
    name = _label(recipe, folder)
    export = _read(folder / "export.json") or {}
    return Report(
        title=f"{' → '.join(step['verb'] for step in result['steps'])}: {name}",
        model_name=name,
        family=child.get("family", ""),
        base_model=name,
        task=str(records.get("data", {}).get("spec", {}).get("task", "")),
        input_shape=_input_shape(child, recipe),
        child=_snapshot("after", child, records, "child"),
        parent=_snapshot("before", parent, records, "parent") if parent and parent != child else None,
        budgets=(*_budgets(records), *_gates(recipe, result)),
        layers=tuple(_layers(parent or child, child, records.get("scores", {}))),
        tensors=tuple(_tensors(child, records.get("errors", {}))),
        steps=tuple(_steps(result["steps"])),
        predictions=tuple(_predictions(records)),
        search=_search(records),
        skipped=tuple(Skipped(what=n["what"], reason=n["reason"]) for n in records.get("notes", [])),
        exports=tuple(_exports(folder)),
        commands=tuple(_commands(folder, export)),
        limits=tuple(_limits(records, folder, export)),
        provenance=_provenance(origin, result, records),
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _label(recipe: Mapping[str, Any], folder: Path) -> str:
    """The model's name as the recipe gives it."""
    model = recipe.get("model") or {}
    build = model.get("build")
    return Path(str(model.get("path") or (build if isinstance(build, str) else folder.name))).name


def _input_shape(child: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    facts = child.get("facts", {})
    if "example_input" in facts:
        return str(facts["example_input"])
    if "image_height" in facts:
        return f"one image of {facts['image_height']} × {facts['image_width']} pixels"
    return f"1 × {recipe.get('length', 64)} tokens"


def _steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[StepRecord]:
    """What each step left behind, where it changed from the step before."""
    before: Mapping[str, float] = {}
    for step in steps:
        now = step["metrics"]
        said = [_said(k, before.get(k), now[k]) for k in SAID if k in now and now[k] != before.get(k)]
        yield StepRecord(name=step["verb"], seconds=step["seconds"], summary=", ".join(said))
        before = now


def _said(name: str, before: float | None, now: float) -> str:
    value, unit = (now / 1e3, " kB") if name == "size_bytes" else (now, "")
    text = f"{value:,.0f}{unit}" if now > 100 else f"{value:.4g}"
    label = {"size_bytes": "size"}.get(name, name)
    return f"{label} {text}"


def _gates(recipe: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[BudgetCheck]:
    """The quality gates of the recipe, with what was reached."""
    from archtool.config.gates import check_gates, parse_gate
    from archtool.errors import QualityError

    for text in recipe.get("require") or ():
        name, _, threshold = parse_gate(text)
        try:
            check_gates([text], result["metrics"])
            met = True
        except QualityError:
            met = False
        yield BudgetCheck(request=text, achieved=result["metrics"].get(name), limit=threshold, met=met)


def _snapshot(name: str, found: Mapping[str, Any], records: Mapping[str, Any], which: str) -> Snapshot:
    costs = found.get("costs", {})
    metrics = {
        key: Metric(value=m["value"], stderr=m["stderr"], higher_is_better=m["higher_is_better"])
        for key, m in found.get("metrics", {}).items()
    }
    return Snapshot(
        name=name,
        parameters=_whole(costs, "parameters"),
        size_bytes=_whole(costs, "size_bytes"),
        bits_per_weight=costs.get("bits"),
        macs=_whole(costs, "macs"),
        metrics=metrics,
        latency=tuple(_latency(records, which)),
    )


def _whole(costs: Mapping[str, float], name: str) -> int | None:
    return int(costs[name]) if name in costs else None


def _latency(records: Mapping[str, Any], which: str) -> Iterator[LatencySample]:
    for text in records.get("latency", []):
        point = json.loads(text) if isinstance(text, str) else text
        for timing in point["timings"]:
            if timing["name"] == which:
                yield latency_sample(
                    timing["samples_ms"], runtime=point["runtime"], batch=point["batch"], length=point["length"],
                    precision=timing["precision"], threads=point["threads"], device="cpu",
                )  # fmt: skip


def _budgets(records: Mapping[str, Any]) -> Iterator[BudgetCheck]:
    for check in records.get("budgets", []):
        unit = {"size_bytes": "bytes", "memory_bytes": "bytes", "latency_ms": "ms"}.get(check["metric"], "")
        yield BudgetCheck(
            request=check["request"], achieved=check["achieved"], limit=check["limit"], unit=unit, met=check["met"]
        )


def _search(records: Mapping[str, Any]) -> Search | None:
    found = records.get("search")
    if not found:
        return None
    candidates = tuple(Candidate(**candidate) for candidate in found["candidates"])
    return Search(quality_name=found["quality_name"], higher_is_better=found["higher_is_better"], candidates=candidates)


def _predictions(records: Mapping[str, Any]) -> Iterator[Prediction]:
    for found in records.get("predictions", []):
        yield Prediction(quantity=found["quantity"], pairs=tuple(PredictedPair(**pair) for pair in found["pairs"]))


def _layers(parent: Mapping[str, Any], child: Mapping[str, Any], scores: Mapping[str, float]) -> Iterator[LayerRow]:
    """Kept and original size of every narrowed structure; blocks that are gone have kept 0."""
    for name, kind in child.get("facts", {}).get("kinds", {}).items():
        sizes = child["sizes"][name], parent["sizes"].get(name)
        yield LayerRow(block=name, structure=kind, kept=sizes[0], original=sizes[1], score=scores.get(name))
    for axis, original in parent.get("sizes", {}).items():
        if axis.endswith("vocab") and child["sizes"].get(axis, original) < original:
            kept = child["sizes"][axis]
            yield LayerRow(block="embed", structure="vocabulary", kept=kept, original=original, score=scores.get(axis))
        block, _, rest = axis.partition(".")
        local = rest.rpartition(".")[2]
        if local in STRUCTURES and original > 1 and block.startswith("b"):
            kept = child["sizes"].get(axis, 0)
            yield LayerRow(
                block=block, structure=LABELS.get(local, local), kept=kept, original=original, score=scores.get(axis)
            )
    yield from _bits(child)


def _bits(child: Mapping[str, Any]) -> Iterator[LayerRow]:
    """Mean stated bits of the encoded tensors of each block."""
    per_block: dict[str, list[float]] = {}
    for name, text in child.get("encodings", {}).items():
        if "bits=" in text and name.startswith("b"):
            per_block.setdefault(name.partition(".")[0], []).append(_bits_of(text))
    for block, bits in per_block.items():
        yield LayerRow(block=block, structure="bits", kept=sum(bits) / len(bits), original=32)


def _bits_of(text: str) -> float:
    return float(text.partition("bits=")[2].partition(",")[0].rstrip(")"))


def _tensors(child: Mapping[str, Any], errors: Mapping[str, float]) -> Iterator[TensorRow]:
    for name, text in child.get("encodings", {}).items():
        bits = _bits_of(text) if "bits=" in text else None
        yield TensorRow(name=name, scheme=text, bits=bits, error=errors.get(name))


def _exports(folder: Path) -> Iterator[ExportCheck]:
    path = folder / "verified.json"
    if not path.is_file():
        return
    for found in json.loads(path.read_text(encoding="utf-8")):
        yield ExportCheck(
            dialect=found["dialect"], loads_in=found["runtime"], max_difference=found["max_abs_diff"],
            tolerance=found["tolerance"], fresh_process=True,
        )  # fmt: skip


def _commands(folder: Path, export: Mapping[str, Any]) -> Iterator[Command]:
    yield Command(purpose="Reproduce this run", code="archtool run recipe.lock.yaml")
    if (folder / "verify.json").is_file():
        yield Command(purpose="Compare the written model with the one in memory, again", code="archtool verify .")
    snippet = export.get("load")
    if (folder / "model").is_dir():
        code = snippet or 'import archtool\n\nmodel = archtool.load("model").module()\n'
        yield Command(purpose="Load the model", code=code, language="python")


def _limits(records: Mapping[str, Any], folder: Path, export: Mapping[str, Any]) -> Iterator[str]:
    yield from export.get("limits", [])
    yield from export.get("notes", [])
    yield from (f"Not written as {dialect}: {reason}" for dialect, reason in export.get("reasons", []))
    if not records.get("latency"):
        yield "Latency was not measured in this run; `archtool bench` measures it."
    if not records.get("data"):
        yield "Quality was not measured: the run had no data."
    if (folder / "model").is_dir() and not (folder / "verified.json").is_file():
        yield "The written model was not compared with the one in memory; `archtool verify` does it."


def _provenance(origin: Mapping[str, Any], result: Mapping[str, Any], records: Mapping[str, Any]) -> Provenance:
    machine = {k: str(v) for k, v in origin.get("machine", {}).items()}
    data = records.get("data", {})
    return Provenance(
        seed=origin.get("seed"),
        started=origin.get("started", ""),
        wall_seconds=sum(step["seconds"] for step in result["steps"]),
        inputs={k: str(v) for k, v in origin.get("inputs", {}).items()},
        data={"digest": data["digest"], "source": str(data["spec"]["source"])} if data else {},
        versions=dict(origin.get("packages", {})),
        hardware=machine,
        recipe=origin.get("recipe", ""),
    )
