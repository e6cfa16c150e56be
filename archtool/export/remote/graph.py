"""An architecture as the remote runtime reads it: blocks with resolved parts, and where each tensor lies in the file.

Everything symbolic (axes, name tables, encodings) is worked out here, so that the runtime needs no more than
names, shapes and numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from archtool.errors import InputError
from archtool.families.registry import family_named
from archtool.ir import parts
from archtool.ir.architecture import Architecture, Block, Layer, Place, roots
from archtool.ir.encodings import Dense, EncodingPlan, matrix
from archtool.ir.parts import Kind, Part, TensorSpec
from archtool.ir.table import shape, stored
from archtool.model.checkpoint import Checkpoint, leaf_name
from archtool.model.files import FileTensor, file_tensors

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Piece:
    """Where a stored leaf lies: its file tensor and its position and first row in it."""

    file: FileTensor
    item: int
    first: int
    rows: int


def graph(checkpoint: Checkpoint) -> dict[str, Any]:
    """The `graph` of a remote ``config.json``."""
    arch = checkpoint.architecture
    files = list(file_tensors(arch, checkpoint.plan, family_named(arch.family).names(arch)))
    places = {place.name: place for place in reversed(arch.places)}  # the first of those that share has all parts
    resolver = Resolver(arch, checkpoint.plan, _pieces(files))
    made = {name: {p.name: resolver.part(place, p) for p in place.parts} for name, place in places.items()}
    return {
        "inputs": list(arch.inputs),
        "tensors": _tensors(checkpoint, files),
        "parts": made,
        "constants": _constants(made),
        "blocks": [_block(block) for block in arch.blocks],
        "outputs": [list(pair) for pair in arch.outputs],
        "cached": cached(arch),
        "read": [place.key for place in stepping(arch) if place.layer.reads],
        "memory": memory(arch),
        "sizes": dict(arch.sizes),
        "learned_positions": any(axis.rpartition(".")[2] == "positions" for axis in arch.size)
        or any(getattr(place.layer.op, "sinusoid", None) for place in arch.places),
    }


def _tensors(checkpoint: Checkpoint, files: list[FileTensor]) -> dict[str, list[Any]]:
    """File tensor → [dtype, or "" for a parameter, whose dtype is the loader's choice; shape]."""
    specs = stored(checkpoint.architecture)
    table: dict[str, list[Any]] = {}
    for file in files:
        first = file.entry.pieces[0]
        trained = first in specs and specs[first].kind is Kind.PARAMETER
        table[file.name] = ["" if trained else DTYPES[checkpoint.weights[first].dtype], list(file.shape)]
    for name, lazy in checkpoint.source.carried.items():
        table[name] = [DTYPES[lazy.dtype], list(lazy.shape)]
    return table


def _constants(made: dict[str, dict[str, Any]]) -> list[Any]:
    """Distinct constants, taken out of the parts, which keep their index."""
    table: list[Any] = []
    for part in (p for parts_ in made.values() for p in parts_.values() if p["part"] == "constant"):
        constant = part.pop("formula") if "formula" in part else [part.pop("dtype"), part.pop("values")]
        if constant not in table:
            table.append(constant)
        part["index"] = table.index(constant)
    return table


def _pieces(files: list[FileTensor]) -> dict[str, Piece]:
    found: dict[str, Piece] = {}
    for file in files:
        first = 0
        for item, (leaf, piece_shape) in enumerate(zip(file.entry.pieces, file.shapes, strict=True)):
            rows = piece_shape[0] if piece_shape else 1
            found[leaf] = Piece(file, item, first, rows)
            first += rows
    return found


def stepping(arch: Architecture) -> list[Place]:
    """Places that generation runs at every step: those on the last input."""
    came = roots(arch.blocks, arch.inputs)
    return [place for place in arch.places if came[place.block.name] == arch.inputs[-1]]


def cached(arch: Architecture) -> list[str]:
    """Places with a key-value cache; none unless every mixer that keeps one is causal."""
    mixers = [p for p in stepping(arch) if hasattr(p.layer.op, "causal")]
    if not all(getattr(p.layer.op, "causal", False) for p in mixers):
        return []
    return [p.key for p in mixers]


def memory(arch: Architecture) -> str:
    """The block on another input that a decoder reads; empty where there is none, or several."""
    steps = {place.block.name for place in stepping(arch)}
    found = {name for place in stepping(arch) for name in place.layer.reads if name not in steps}
    return found.pop() if len(found) == 1 else ""


def _block(block: Block) -> dict[str, Any]:
    return {
        "name": block.name,
        "owner": block.owner,
        "inputs": list(block.inputs),
        "layers": [_layer(layer) for layer in block.layers],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    norms = {which: getattr(layer, which) is not None for which in ("pre", "branch", "post")}
    op = None if layer.op is None else {"kind": layer.op.kind, **dataclasses.asdict(layer.op)}
    return {
        "name": layer.name, "op": op, **norms, "residual": layer.residual, "scale": layer.scale,
        "source": layer.source, "reads": list(layer.reads), "since": layer.since,
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Resolver:
    """Turns parts into what the runtime builds."""

    arch: Architecture
    plan: EncodingPlan
    pieces: Mapping[str, Piece]

    def part(self, place: Place, part: Part) -> dict[str, Any]:
        """One part: its kind, settings and stored tensors."""
        refs = {s.name: self.ref(place, part, s) for s in part.tensors() if s.kind is not Kind.DERIVED}
        return {**settings(part, self.arch), **({"tensors": refs} if refs else {})}

    def ref(self, place: Place, part: Part, spec: TensorSpec) -> dict[str, Any]:
        """Which file tensors hold a tensor, and how they lie there."""
        storage = spec.storage or ".".join(filter(None, (place.name, part.name, spec.name)))
        encoding, full = self.plan.of(storage), shape(spec, self.arch)
        leaves = {leaf.name: self.pieces[leaf_name(storage, leaf)] for leaf in encoding.leaves(full)}
        ref: dict[str, Any] = {"leaves": {leaf: piece.file.name for leaf, piece in leaves.items()}}
        if not isinstance(encoding, Dense):
            ref |= {"encoding": {"kind": encoding.kind, **dataclasses.asdict(encoding)}, "columns": matrix(full)[1]}
        return ref | _layout(next(iter(leaves.values())))


def _layout(piece: Piece) -> dict[str, Any]:
    entry = piece.file.entry
    said: dict[str, Any] = {k: v for k in ("transpose", "lead", "trail", "interleaved") if (v := getattr(entry, k))}
    if entry.stack:
        said["item"] = piece.item
    elif len(entry.pieces) > 1:
        said["rows"] = [piece.first, piece.first + piece.rows]
    return said


@singledispatch
def settings(part: Part, arch: Architecture) -> dict[str, Any]:
    """A part's kind and settings for the runtime."""
    raise InputError(f"the remote dialect has no part of type {type(part).__name__}", "Write the native dialect.")


@settings.register
def _(part: parts.Linear, arch: Architecture) -> dict[str, Any]:
    return {"part": "linear"}


@settings.register
def _(part: parts.Table, arch: Architecture) -> dict[str, Any]:
    return {"part": "table"}


@settings.register
def _(part: parts.Conv, arch: Architecture) -> dict[str, Any]:
    where = {"stride": list(part.stride), "padding": list(part.padding), "dilation": list(part.dilation)}
    return {"part": "conv", "kernel": list(part.kernel), **where}


@settings.register
def _(part: parts.Norm, arch: Architecture) -> dict[str, Any]:
    return {"part": "norm", "kind": part.kind, "eps": part.eps, "offset": part.offset}


@settings.register
def _(part: parts.Vector, arch: Architecture) -> dict[str, Any]:
    return {"part": "vector"}


@settings.register
def _(part: parts.Witness, arch: Architecture) -> dict[str, Any]:
    return {"part": "witness", "shape": [d.size(arch.size) for d in part.tensors()[0].dims]}


@settings.register
def _(part: parts.Frequencies, arch: Architecture) -> dict[str, Any]:
    from archtool.operators.rotary import Rotary, frequencies

    assert isinstance(part.rotary, Rotary)
    return {"part": "constant", "values": frequencies(part.rotary), "dtype": "float32"}


@settings.register
def _(part: parts.Constant, arch: Architecture) -> dict[str, Any]:
    if hasattr(part.source, "kind"):
        formula = {"kind": part.source.kind, **dataclasses.asdict(part.source)}  # type: ignore[call-overload]
        return {"part": "constant", "formula": formula}
    values = part.source.values()
    return {"part": "constant", "values": values.tolist(), "dtype": str(values.dtype).removeprefix("torch.")}
