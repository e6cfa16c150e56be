"""The axis table: every tensor of an architecture with its named dimensions, and every claim on every axis.

This is what structural pruning, extraction, reparameterization and growth read: who produces, consumes or
follows an axis. Two names with one ``storage`` are one tensor, edited once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from archtool.ir.architecture import Architecture, Place
from archtool.ir.parts import Kind, TensorSpec


@dataclass(frozen=True)
class Claim:
    """One use of a tensor at one place."""

    place: Place
    part: str
    spec: TensorSpec

    @property
    def name(self) -> str:
        """Canonical name of the tensor."""
        return self.spec.name


def claims(arch: Architecture) -> tuple[Claim, ...]:
    """Every tensor use, in execution order; shared blocks and tied weights appear once per use. Made once per graph."""
    made: dict[str, tuple[Claim, ...]] = vars(arch)
    if "_claims" not in made:
        made["_claims"] = tuple(_claims(arch))
    return made["_claims"]


def _claims(arch: Architecture) -> Iterator[Claim]:
    for place in arch.places:
        for part in place.parts:
            for spec in part.tensors():
                name = ".".join(filter(None, (place.name, part.name, spec.name)))
                yield Claim(place, part.name, replace(spec, name=name, storage=spec.storage or name))


def stored(arch: Architecture) -> Mapping[str, TensorSpec]:
    """Storage id → the spec of its first use, for every tensor that a checkpoint holds."""
    table: dict[str, TensorSpec] = {}
    for claim in claims(arch):
        if claim.spec.kind is not Kind.DERIVED:
            table.setdefault(claim.spec.storage, claim.spec)
    return table


def shape(spec: TensorSpec, arch: Architecture) -> tuple[int, ...]:
    """The tensor's shape under the architecture's sizes."""
    return tuple(d.size(arch.size) for d in spec.dims)


def axis_claims(arch: Architecture, axis: str) -> tuple[Claim, ...]:
    """All uses of tensors that carry ``axis``."""
    return tuple(c for c in claims(arch) if any(axis in d.axes() for d in c.spec.dims))


def axes(arch: Architecture) -> tuple[str, ...]:
    """All axes that some tensor carries, in order of appearance."""
    seen: dict[str, None] = {}
    for claim in claims(arch):
        for dimension in claim.spec.dims:
            seen.update(dict.fromkeys(dimension.axes()))
    return tuple(seen)


def alike(arch: Architecture) -> Mapping[str, tuple[str, ...]]:
    """Axis → all axes, itself among them, that a shared tensor demands to be cut like it; absent: it is free."""
    groups: dict[str, tuple[str, ...]] = {}
    first: dict[str, Claim] = {}
    for claim in claims(arch):
        owner = first.setdefault(claim.spec.storage, claim)
        for theirs, mine in zip(owner.spec.dims, claim.spec.dims, strict=True):
            for a, b in zip(theirs.axes(), mine.axes(), strict=False):
                if a != b:
                    merged = tuple(dict.fromkeys((*groups.get(a, (a,)), *groups.get(b, (b,)))))
                    groups.update(dict.fromkeys(merged, merged))
    return groups
