"""Units: which axes a transform may make narrower, grouped by kind (ffn units, heads, depth, ...).

A unit is one index of an axis. Kinds are told from the operators, so that every family has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch

from archtool.errors import UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.operator import Operator

KINDS: Mapping[str, tuple[str, ...]] = {
    "ffn": ("hidden",),
    "heads": ("kv",),
    "queries": ("group",),
    "qk": ("qk", "pairs"),
    "v": ("v",),
}
"""Kind of unit → local axes of operators that carry it."""


def unit_axes(arch: Architecture, kinds: Sequence[str], protect: Sequence[str] = ()) -> tuple[str, ...]:
    """Axes of the given kinds, in execution order, without those whose block or layer is protected."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise UsageError(f"unknown unit kind {unknown[0]!r}", f"Known: {', '.join(KINDS)}.")
    found: dict[str, None] = {}
    for place in arch.places:
        if place.layer.op and not is_protected(place.name, protect):
            found.update(dict.fromkeys(place.site.axis(a) for a in _locals(place.layer.op, kinds, arch, place.name)))
    return tuple(found)


def _locals(op: Operator, kinds: Sequence[str], arch: Architecture, place: str) -> Iterable[str]:
    wanted = {axis for kind in kinds for axis in KINDS[kind]}
    for local, edits in op.local_axes.items():
        if local in wanted and "select" in edits and arch.size.get(f"{place}.{local}", 0) > 1:
            yield local


def is_protected(name: str, patterns: Sequence[str]) -> bool:
    """Whether a block, layer or tensor name matches a pattern (``b0``, ``b0.attn``, ``*.attn.q*``)."""
    return any(fnmatch(name, p) or name == p or name.startswith(f"{p}.") for p in patterns)


def check_patterns(arch: Architecture, patterns: Sequence[str]) -> None:
    """Refuse a pattern that protects nothing: it is a typo."""
    names = [*arch.index, *(place.name for place in arch.places)]
    for pattern in patterns:
        tensors = (f"{name}.x" for name in names)
        if not any(is_protected(n, [pattern]) for n in names) and not any(fnmatch(t, pattern) for t in tensors):
            raise UsageError(f"--protect {pattern!r} matches no block, layer or tensor", "Blocks are named b0, b1, …")
