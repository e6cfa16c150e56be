"""Zero-padding an architecture to a larger one that computes the same: a selection, run backwards.

Where pruning kept some entries of an axis, padding puts zeros back: a new row of a producer gives zero, a new
column of a consumer ignores what it is given. Rotary pairs go back to the places that they had. A layer that was
dropped comes back with zero weights, so that its residual adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archtool.export.base import DialectRefused
from archtool.ir.architecture import Architecture, Block, Layer
from archtool.ir.axes import Dim, Selection, kept_indices
from archtool.ir.nesting_after import renamed_nesting
from archtool.ir.parts import TensorSpec
from archtool.ir.table import shape, stored
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import Lazy, load
from archtool.operators.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor


NO_LAYER = Layer("")


@dataclass(frozen=True)
class Padded:
    """A tensor whose entries stand at ``places`` of a larger one that is zero (gains: one) elsewhere."""

    base: Lazy | None
    shape: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    fill: float
    dtype: str

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows of the larger tensor; the smaller one is read whole."""
        import torch

        from archtool.model.codec import DTYPES

        whole = torch.full(self.shape, self.fill, dtype=DTYPES[self.dtype])
        if self.base is not None:
            whole[torch.meshgrid(*map(torch.tensor, self.places), indexing="ij")] = load(self.base)
        return whole[start:stop]


def padded(checkpoint: Checkpoint, target: Architecture) -> Checkpoint:
    """The checkpoint with the sizes of ``target``, computing the same; encoded tensors become dense.

    Raises:
        DialectRefused: zeros cannot make the target compute the same; the message says where.
    """
    arch = renamed(checkpoint.architecture, target)
    _check(arch, target)
    before = dict(zip(stored(arch), stored(checkpoint.architecture), strict=True))
    chosen = selections(arch, target)
    weights: dict[str, Lazy] = {}
    for storage, spec in stored(target).items():
        base = checkpoint.tensor(before[storage]) if storage in before else None
        weights[storage] = _padded(storage, base, spec, target, chosen, _dtype(checkpoint))
    nesting = renamed_nesting(checkpoint.nesting, checkpoint.architecture, target)
    return Checkpoint(target, type(checkpoint.plan)(), weights, checkpoint.source, nesting)


def _dtype(checkpoint: Checkpoint) -> str:
    found = {lazy.dtype for lazy in checkpoint.weights.values()}
    return next((dtype for dtype in ("F32", "BF16", "F16", "F64") if dtype in found), "F32")


def renamed(arch: Architecture, target: Architecture) -> Architecture:
    """The architecture with its blocks named as the target's, by position."""
    from archtool.ir.codec import from_json, to_json
    from archtool.operators.registry import operator_class

    if len(arch.blocks) != len(target.blocks):
        raise DialectRefused(f"{len(arch.blocks)} blocks cannot become {len(target.blocks)}")
    names = {a.name: b.name for a, b in zip(arch.blocks, target.blocks, strict=True)}

    def walk(value: object) -> object:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        head, dot, rest = value.partition(".") if isinstance(value, str) else ("", "", "")
        return f"{names[head]}{dot}{rest}" if head in names else value

    data = {k: v if k in ("facts", "family", "inputs") else walk(v) for k, v in to_json(arch).items()}
    return from_json(Architecture, data, operator_class)


def selections(arch: Architecture, target: Architecture) -> dict[str, Selection]:
    """For each axis that is larger in the target: where the entries that are there stand in it."""
    chosen = {axis: Selection(axis, tuple(range(n))) for axis, n in arch.sizes if target.size.get(axis, n) != n}
    for place in arch.places:
        op, axis = place.layer.op, f"{place.name}.pairs"
        if isinstance(op, Attention) and op.rotary and op.rotary.kept:
            chosen[axis] = _pairs(axis, op.rotary.kept, f"{place.name}.kv", target)
    return chosen


def _pairs(axis: str, kept: tuple, kv: str, target: Architecture) -> Selection:
    """The original places of the pairs; heads that are put back take any."""
    if not isinstance(kept[0], tuple):
        return Selection(axis, kept)
    rows = (*kept, *(kept[:1] * (target.size[kv] - len(kept))))
    return Selection(axis, rows, kv)


def _padded(
    name: str, base: Lazy | None, spec: TensorSpec, target: Architecture, chosen: Mapping[str, Selection], dtype: str
) -> Lazy:
    wanted = shape(spec, target)
    fill = 1.0 if spec.init == "ones" else 0.0
    if base is None:
        return Padded(None, wanted, (), 0.0 if name.endswith(".scale") else fill, dtype)
    places = tuple(tuple(_places(d, target, chosen)) for d in spec.dims)
    if all(p == tuple(range(n)) for p, n in zip(places, wanted, strict=True)):
        return base
    return Padded(base, wanted, places, fill, base.dtype)


def _places(dimension: Dim, target: Architecture, chosen: Mapping[str, Selection]) -> list[int]:
    return kept_indices(dimension, target.size, chosen)


def _check(arch: Architecture, target: Architecture) -> None:
    smaller = [axis for axis, n in arch.sizes if target.size.get(axis, n) < n]
    if smaller:
        raise DialectRefused(
            f"{smaller[0]} has {arch.size[smaller[0]]} entries; the class takes {target.size[smaller[0]]}"
        )
    local = {axis for axis, n in arch.sizes if target.size.get(axis) != n}
    shared = sorted(axis for axis in local if axis.count(".") < 2)
    if shared:
        raise DialectRefused(f"{shared[0]} is a stream; zeros in it would change norms")
    bare = {p.key for p in target.places if p.layer.op and not p.layer.scale and not p.layer.op.parts(p.site)}
    for mine, theirs in zip(arch.blocks, target.blocks, strict=True):
        for problem in _block_problems(mine, theirs, local, bare):
            raise DialectRefused(f"block {theirs.name}: {problem}")


def _block_problems(mine: Block, theirs: Block, padded_axes: set[str], bare: set[str]) -> Iterator[str]:
    there = {layer.name: layer for layer in mine.layers}
    extra = [name for name in there if name not in {layer.name for layer in theirs.layers}]
    if extra:
        yield f"the class has no layer {extra[0]}"
    branches = _missing_branches(theirs, there)
    for layer in theirs.layers:
        now = there.get(layer.name)
        if now is None or (now.op is None and layer.op is not None):
            if layer.name not in branches:
                yield from _missing_problems(now, layer, f"{theirs.name}.{layer.name}" in bare)
        elif _comparable(now) != _comparable(layer):
            yield f"layer {layer.name} is not what the class computes"
        elif isinstance(now.op, Attention) and now.op.qk_norm and _resized(f"{mine.name}.{layer.name}", padded_axes):
            yield f"layer {layer.name} norms its heads; zeros in them would change the norm"


def _missing_branches(theirs: Block, there: Mapping[str, Layer]) -> frozenset[str]:
    """Names of the layers inside of residual branches that are missing as a whole."""
    names = [layer.name for layer in theirs.layers]
    spans = (
        names[names.index(layer.since) : names.index(layer.name)]
        for layer in theirs.layers
        if layer.since and there.get(layer.name, NO_LAYER).op is None
    )
    return frozenset(name for span in spans for name in span)


def _missing_problems(now: Layer | None, layer: Layer, bare: bool) -> Iterator[str]:
    """A layer that comes back with zero weights must leave the stream as it is."""
    if bare:
        yield f"layer {layer.name} is missing and has no weight that could be zero"
    if not layer.residual:
        yield f"layer {layer.name} is missing and has no residual"
    elif layer.post and (now is None or now.post != layer.post):
        yield f"layer {layer.name} is missing and its norm with it"


def _resized(place: str, axes: set[str]) -> bool:
    return any(f"{place}.{local}" in axes for local in ("pairs", "qk"))


def _comparable(layer: Layer) -> Layer:
    """A layer without what a selection of rotary pairs leaves behind."""
    op = layer.op
    if isinstance(op, Attention) and op.rotary:
        return replace(layer, op=replace(op, rotary=replace(op.rotary, kept=())))
    return layer
