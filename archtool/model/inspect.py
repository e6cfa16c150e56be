"""What a checkpoint is, block by block, as rows: read from headers and the architecture, no weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from archtool.ir.architecture import Place
from archtool.ir.codec import to_json
from archtool.ir.cost import layer_costs
from archtool.ir.diff import diff
from archtool.ir.parts import Kind, TensorSpec
from archtool.ir.table import claims, shape
from archtool.model.checkpoint import Checkpoint, leaf_name
from archtool.model.costs import Workload, costs
from archtool.model.lazy import nbytes


@dataclass(frozen=True)
class LayerRow:
    """One layer: its operator, the sizes of its own axes, and what it stores and costs."""

    name: str
    operator: str
    sizes: dict[str, int]
    parameters: int
    size_bytes: int
    bits: float
    macs: int


def summary(checkpoint: Checkpoint, length: int = 64) -> dict[str, Any]:
    """Family, totals and layer rows as plain data."""
    arch = checkpoint.architecture
    rows = [vars(row) for row in layer_rows(checkpoint, length)]
    shared = {"streams": {a: n for a, n in arch.sizes if a.count(".") < 2}, "facts": dict(arch.facts)}
    carried = {name: list(lazy.shape) for name, lazy in checkpoint.source.carried.items()}
    return {
        "family": arch.family,
        **costs(checkpoint, Workload(length)),
        "length": length,
        **shared,
        "outputs": [name for name, _ in arch.outputs],
        "dtypes": _dtypes(checkpoint),
        "carried": carried,
        "ignored": list(checkpoint.source.ignored),
        "nesting": None if checkpoint.nesting is None else to_json(checkpoint.nesting),
        "layers": rows,
    }


def layer_rows(checkpoint: Checkpoint, length: int = 64) -> Iterator[LayerRow]:
    """One row per layer, in execution order; a shared tensor counts at its first use."""
    arch, seen = checkpoint.architecture, set[str]()
    by_place: dict[int, list[TensorSpec]] = {}
    for claim in claims(arch):
        if claim.spec.kind is not Kind.DERIVED and claim.spec.storage not in seen:
            seen.add(claim.spec.storage)
            by_place.setdefault(id(claim.place), []).append(claim.spec)
    for row in layer_costs(arch, length):
        specs = by_place.get(id(row.place), [])
        parameters = sum(math.prod(shape(s, arch)) for s in specs if s.kind is Kind.PARAMETER)
        size_bytes = sum(_stored(checkpoint, s) for s in specs)
        bits = 8 * size_bytes / parameters if parameters else 0.0
        yield LayerRow(
            _name(row.place), _kind(row.place), _sizes(checkpoint, row.place), parameters, size_bytes, bits, row.macs
        )


def _name(place: Place) -> str:
    return f"{place.block.name}.{place.layer.name}"


def _kind(place: Place) -> str:
    return place.layer.op.kind if place.layer.op else "norm"


def _sizes(checkpoint: Checkpoint, place: Place) -> dict[str, int]:
    size = checkpoint.architecture.size
    local = place.layer.op.local_axes if place.layer.op else ()
    return {axis: size[f"{place.name}.{axis}"] for axis in local if f"{place.name}.{axis}" in size}


def _stored(checkpoint: Checkpoint, spec: TensorSpec) -> int:
    leaves = checkpoint.plan.of(spec.storage).leaves(shape(spec, checkpoint.architecture))
    return sum(nbytes(checkpoint.weights[leaf_name(spec.storage, leaf)]) for leaf in leaves)


def _dtypes(checkpoint: Checkpoint) -> dict[str, int]:
    """Stored dtype → bytes."""
    found: dict[str, int] = {}
    for lazy in checkpoint.weights.values():
        found[lazy.dtype] = found.get(lazy.dtype, 0) + nbytes(lazy)
    return found


def differences(before: Checkpoint, after: Checkpoint) -> list[dict[str, Any]]:
    """Changes of axes, layers and encodings from one checkpoint to another."""
    changes = diff(before.architecture, after.architecture, before.plan, after.plan)
    return [vars(change) for change in changes]
