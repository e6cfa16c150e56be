"""Units: which axes a transform may make narrower, grouped by kind (ffn units, heads, depth, ...).

A unit is one index of an axis. Kinds are told from the operators, so that every family has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatch

from archtool.errors import UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.operator import Operator
from archtool.ir.parts import Role
from archtool.ir.table import alike, claims
from archtool.registry import suggestion

KINDS: Mapping[str, tuple[str, ...]] = {
    "ffn": ("hidden",),
    "heads": ("kv",),
    "queries": ("group",),
    "qk": ("qk", "pairs"),
    "v": ("v",),
    "inner": ("inner",),
    "state": ("state",),
    "rank": ("rank",),
}
"""Kind of unit → local axes of operators that carry it; `WIDTH` stands beside them."""

WIDTH = "width"
"""The kind of the streams' own axes: narrowing one narrows every layer on it."""


def kinds_for(arch: Architecture, asked: Sequence[str], usual: Sequence[str]) -> Sequence[str]:
    """The kinds asked for; without any the usual ones, or inner widths where the model has none of these."""
    return asked or (usual if unit_axes(arch, usual) else ("inner",))


def unit_axes(arch: Architecture, kinds: Sequence[str], protect: Sequence[str] = ()) -> tuple[str, ...]:
    """Axes of the given kinds, in execution order, without those that protected tensors have or hold fast."""
    unknown = sorted(set(kinds) - {*KINDS, WIDTH})
    if unknown:
        raise UsageError(f"unknown unit kind {unknown[0]!r}", suggestion(unknown[0], [*KINDS, WIDTH]))
    kept = protected_tensors(arch, protect)
    fixed = {axis for c in claims(arch) if c.spec.storage in kept for d in c.spec.dims for axis in d.axes()}
    found: dict[str, None] = {}
    for place in arch.places:
        if place.layer.op:
            wanted = (place.site.axis(a) for a in _locals(place.layer.op, kinds, arch, place.name))
            found.update(dict.fromkeys(axis for axis in wanted if axis not in fixed))
    groups = alike(arch)
    free = (axis for axis in found if all(other in found for other in groups.get(axis, ())))
    streams = stream_axes(arch) if WIDTH in kinds else ()
    return (*(axis for axis in streams if axis not in fixed), *free)


def joined(arch: Architecture, scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Scores under which axes that a shared tensor ties are ranked alike: each unit has the mean over all of them."""
    groups = alike(arch)
    found = {}
    for axis in scores:
        rows = [scores[other] for other in groups.get(axis, (axis,))]
        found[axis] = [sum(unit) / len(rows) for unit in zip(*rows, strict=True)]
    return found


def stream_axes(arch: Architecture) -> tuple[str, ...]:
    """The axes of streams that no operator owns, that some tensor produces and none looks up or puts out."""
    roles: dict[str, set[Role]] = {}
    for claim in claims(arch):
        for dimension, role in zip(claim.spec.dims, claim.spec.roles, strict=True):
            for axis in dimension.axes():
                roles.setdefault(axis, set()).add(role)
    owned = {p.site.axis(local) for p in arch.places if p.layer.op for local in p.layer.op.local_axes}
    made = (axis for axis, has in roles.items() if Role.PRODUCES in has and Role.CONSUMES in has)
    return tuple(a for a in made if a not in owned and Role.INDEX not in roles[a] and arch.size[a] > 1)


def _locals(op: Operator, kinds: Sequence[str], arch: Architecture, place: str) -> Iterable[str]:
    wanted = {axis for kind in kinds if kind != WIDTH for axis in KINDS[kind]}
    for local, edits in op.local_axes.items():
        if local in wanted and "select" in edits and arch.size.get(f"{place}.{local}", 0) > 1:
            yield local


def is_protected(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name, or anything above it, matches a pattern (``b0``, ``b*.attn``, ``b0.attn.q.weight``)."""
    words = name.split(".")
    above = [".".join(words[: n + 1]) for n in range(len(words))]
    return any(fnmatch(part, pattern) for pattern in patterns for part in above)


def protected_tensors(arch: Architecture, patterns: Sequence[str]) -> frozenset[str]:
    """Storage ids of the tensors that some pattern protects under any of their names (tied ones have several)."""
    return frozenset(c.spec.storage for c in claims(arch) if is_protected(c.name, patterns))


def check_patterns(arch: Architecture, patterns: Sequence[str]) -> None:
    """Refuse a pattern that protects nothing: it is a typo."""
    names = list(dict.fromkeys([*arch.index, *(p.name for p in arch.places), *(c.name for c in claims(arch))]))
    for pattern in patterns:
        if not any(is_protected(name, [pattern]) for name in names):
            near = get_close_matches(pattern, names, 1)
            like = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"--protect {pattern!r} matches no block, layer or tensor",
                f"{like}Blocks are {', '.join(arch.index)}; layers and tensors stand below them (b0.attn.q.weight).",
            )
