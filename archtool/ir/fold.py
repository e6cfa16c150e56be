"""Which norms can become part of the linear layers beside them, exactly, and the architecture in which they are.

BatchNorm in evaluation is one gain and one shift per channel: the convolution or linear layer before it takes both
(Jacob et al. 2018, section 3.2). LayerNorm, RMSNorm and GroupNorm keep their statistics; their gain and bias go into
the linear layers that read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from archtool.ir.architecture import Architecture, Block, Layer, Place
from archtool.ir.axes import Dim
from archtool.ir.parts import Conv, Linear, Norm, Part
from archtool.ir.table import claims

LAYER_NORMS = ("pre", "branch", "post")


@dataclass(frozen=True)
class Folding:
    """A norm and what takes it.

    Attributes:
        name: canonical prefix of the norm's tensors (``"b0.op.branch"``).
        norm: its settings.
        into: canonical prefixes of the linear parts that take it.
        follows: they read the norm (their columns take the gain); else their result is what it reads (their rows do).
    """

    name: str
    norm: Norm
    into: tuple[str, ...]
    follows: bool

    @property
    def goes(self) -> bool:
        """Whether nothing of the norm is left."""
        return self.norm.kind == "batch"


def folding(arch: Architecture, block: str, layer: str, norm: str) -> Folding | str:
    """How a norm is folded, or the reason why it cannot be."""
    place = next((p for p in arch.places if p.key == f"{block}.{layer}"), None)
    part = None if place is None else next((p for p in place.parts if p.name == norm and isinstance(p, Norm)), None)
    if place is None or not isinstance(part, Norm):
        return "there is no such norm"
    reason = _standing(place, part)
    if reason:
        return reason
    parts, follows = _takers(place, part)
    if not parts:
        return _nobody(place, part)
    for taker in parts:
        reason = _mismatch(taker, part.width, follows)
        if reason:
            return reason
    found = Folding(f"{place.name}.{norm}", part, tuple(f"{place.name}.{taker.name}" for taker in parts), follows)
    return _shared(arch, found) or found


def _standing(place: Place, norm: Norm) -> str:
    """Why a norm that stands here is never folded."""
    if not norm.gain:
        return "it has no gain"
    if norm.name == "post" and (place.layer.residual or norm.kind != "batch"):
        return "the stream after the norm is also the residual"
    if norm.name == "branch" and norm.kind != "batch":
        return "what leaves it goes onto the stream and not into a linear layer"
    if norm.kind == "grn":
        return "its gain is on a part of what leaves it"
    if place.layer.op is None:
        return "it stands alone: no linear layer of its layer reads it"
    return ""


def _takers(place: Place, norm: Norm) -> tuple[tuple[Part, ...], bool]:
    """The parts that take a norm, and whether they follow it."""
    op, layer = place.layer.op, place.layer
    assert op is not None
    parts = {part.name: part for part in op.parts(place.site)}
    direct = norm.name == "post" and not (layer.branch or layer.scale)
    before = op.feeder("branch" if direct else norm.name) if norm.kind == "batch" else ""
    if before:
        return (parts[before],), False
    after = () if layer.reads or norm.name in ("branch", "post") else op.readers(norm.name)
    return tuple(parts[name] for name in after), True


def _nobody(place: Place, norm: Norm) -> str:
    kind = place.layer.op.kind if place.layer.op else ""
    if place.layer.reads and norm.name == "pre":
        return f"operator {kind} reads other streams beside the norm"
    if norm.kind == "batch":
        return f"operator {kind} has no linear layer or convolution right beside it"
    return f"operator {kind} does not read it with linear layers alone"


def _mismatch(taker: Part, width: Dim, follows: bool) -> str:
    """Why a part cannot take a norm of that width."""
    if not isinstance(taker, Linear | Conv):
        return f"{taker.name} is no linear layer or convolution"
    if isinstance(taker, Linear) and taker.tie:
        return f"{taker.name} is tied to {taker.tie}"
    there = taker.inp if follows else taker.out
    return "" if there == width else f"{taker.name} has ({there}) where the norm has ({width})"


def _shared(arch: Architecture, found: Folding) -> str:
    """Why the tensors are not this place's alone."""
    users: dict[str, list[str]] = {}
    for claim in claims(arch):
        users.setdefault(claim.spec.storage, []).append(claim.place.key)
    for prefix in (found.name, *found.into):
        for storage, places in users.items():
            if storage.startswith(f"{prefix}.") and len(places) > 1:
                return f"{storage} is shared by {' and '.join(places)}; put an Unshare decision before"
    return ""


def folded(arch: Architecture, block: str, layer: str, found: Folding) -> Architecture:
    """The architecture after a folding."""
    place = next(p for p in arch.places if p.key == f"{block}.{layer}")
    without = _without(place.layer, found.norm.name) if found.goes else place.layer
    after = _replaced(arch, block, without)
    names = [name.rpartition(".")[2] for name in found.into]
    op, shifts = without.op, found.goes or (found.norm.bias and found.norm.kind != "rms")
    assert op is not None
    parts: Mapping[str, Part] = {part.name: part for part in op.parts(place.site)}
    if shifts and not all(getattr(parts[name], "bias", False) for name in names):
        after = _replaced(after, block, replace(without, op=op.with_bias(names)))
    return after


def _without(layer: Layer, norm: str) -> Layer:
    if norm in LAYER_NORMS:
        return replace(layer, **{norm: None})  # type: ignore[arg-type]
    assert layer.op is not None
    return replace(layer, op=replace(layer.op, **{norm: None}))


def _replaced(arch: Architecture, block: str, layer: Layer) -> Architecture:
    def swapped(layers: Sequence[Layer]) -> tuple[Layer, ...]:
        return tuple(layer if each.name == layer.name else each for each in layers)

    blocks: tuple[Block, ...] = tuple(
        replace(b, layers=swapped(b.layers)) if b.name == block else b for b in arch.blocks
    )
    return replace(arch, blocks=blocks)
