"""Costs and quality of the current model and its parent, as metrics of the state and snapshots for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archtool.errors import ResourceError
from archtool.run.inputs import evaluation_data, pooling_of
from archtool.run.step import Context, State

if TYPE_CHECKING:
    from archtool.data import Data
    from archtool.model.build import Model
    from archtool.model.checkpoint import Checkpoint

BATCH = 32


def assess(state: State, context: Context, **records: Any) -> State:
    """The state with metrics of its checkpoint, snapshots of both models, and ``records`` added.

    Quality is measured where the recipe has data; the parent's snapshot is taken once in a run.
    """
    judged = _quality(state, context) if context.recipe.data else {}
    own = snapshot(state.checkpoint, context, judged.get("child"))
    kept = dict(state.records)
    same = state.parent is None or state.parent is state.checkpoint
    if same or "parent" not in kept:
        kept["parent"] = own if same else snapshot(state.parent, context, judged.get("parent"))
    kept["child"] = own
    if "data" in judged:
        kept["data"] = judged["data"]
    quality = {name: entry["value"] for name, entry in own["metrics"].items()}
    return replace(state, metrics={**own["costs"], **quality}, records={**kept, **records})


def snapshot(checkpoint: Checkpoint, context: Context, quality: Mapping[str, Any] | None) -> dict[str, Any]:
    """Costs, quality, widths and encodings of one model as JSON."""
    from archtool.ir.diff import describe
    from archtool.model.costs import Workload, costs

    arch = checkpoint.architecture
    return {
        "costs": costs(checkpoint, Workload(context.recipe.length)),
        "metrics": dict(quality or {}),
        "sizes": dict(arch.sizes),
        "blocks": [block.name for block in arch.blocks],
        "encodings": {name: describe(encoding) for name, encoding in checkpoint.plan.entries},
        "family": arch.family,
        "facts": dict(arch.facts),
    }


def _quality(state: State, context: Context) -> dict[str, Any]:
    """``child``: metrics of the checkpoint; ``parent``: of the parent, where they are still missing."""
    checkpoint = state.checkpoint
    data = evaluation_data(context.recipe, checkpoint)
    found: dict[str, Any] = {"data": {"digest": data.digest(), "spec": data.spec.to_json(), "examples": len(data)}}
    module = loaded(checkpoint, context)
    found["child"] = measured(module, data, checkpoint, context)
    if state.parent is None or state.parent is checkpoint:
        return found
    same, parent = same_tokens(state.parent, checkpoint), loaded(state.parent, context)
    if "parent" not in state.records:
        theirs = data if same else evaluation_data(context.recipe, state.parent)
        found["parent"] = measured(parent, theirs, state.parent, context)
    if same:
        found["child"] |= _agreement(module, parent, data, checkpoint, context)
    return found


def same_tokens(parent: Checkpoint, child: Checkpoint) -> bool:
    """Whether both read the same ids; a trimmed vocabulary has others."""
    return parent.architecture.size.get("vocab") == child.architecture.size.get("vocab")


def loaded(checkpoint: Checkpoint, context: Context) -> Model:
    """The module on the run's device, with its threads set."""
    import torch

    if context.threads:
        torch.set_num_threads(context.threads)
    _require_device(context.device)
    return checkpoint.module(context.dtype).to(context.device)


def _require_device(name: str) -> None:
    """Refuse a device that this machine's torch does not have."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        first = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ResourceError(f"the device {name} is not usable here: {first}", "Use --device cpu.") from problem


def measured(module: Model, data: Data, checkpoint: Checkpoint, context: Context) -> dict[str, Any]:
    """Metric → value, standard error and direction, for the recipe's task."""
    from archtool.evaluate.registry import evaluate

    task = context.recipe.task or data.task
    found = evaluate(
        module, task, data, batch_size=BATCH, device=context.device, progress=context.progress,
        pooling=pooling_of(checkpoint), seed=context.seed,
    )  # fmt: skip
    return {name: _entry(found, name) for name in found.values}


def _agreement(module: Model, parent: Model, data: Data, checkpoint: Checkpoint, context: Context) -> dict[str, Any]:
    from archtool.evaluate.registry import evaluate, find_task

    if data.task not in find_task("agreement").data:
        return {}
    found = evaluate(
        module, "agreement", data, batch_size=BATCH, device=context.device, progress=context.progress,
        parent=parent, pooling=pooling_of(checkpoint), seed=context.seed,
    )  # fmt: skip
    return {f"agreement_{name}": _entry(found, name) for name in found.values}


def _entry(found: Any, name: str) -> dict[str, Any]:
    stderr = found.stderr.get(name)
    return {"value": found.values[name], "stderr": stderr, "higher_is_better": found.higher_is_better.get(name, True)}
