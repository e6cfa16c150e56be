"""Round-to-nearest: each weight to the nearest point of its row's (or group's) integer grid, no data needed.

The baseline of all weight quantization. Linear weights, kernels and look-up tables are encoded; norms, biases and
positions stay. Where a group does not divide a width, a smaller power of two is taken, then 8 bits per row; every such
fallback is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from archtool.ir.architecture import Architecture
from archtool.ir.edit import Edit, Encode
from archtool.ir.encodings import Affine
from archtool.ir.parts import Conv, Linear, Table
from archtool.ir.table import shape, stored
from archtool.transforms.units import protected_tensors


def candidates(arch: Architecture, tables: bool = True) -> tuple[str, ...]:
    """Storage ids of the matrices that are encoded, each once."""
    found: dict[str, None] = {}
    for place in arch.places:
        for part in place.parts:
            if isinstance(part, Linear | Conv) or (tables and isinstance(part, Table)):
                tied = getattr(part, "tie", "")
                found[f"{tied}.weight" if tied else f"{place.name}.{part.name}.weight"] = None
    return tuple(found)


def rtn_edit(arch: Architecture, encoding: Affine, protect: Sequence[str] = (), tables: bool = True) -> Edit:
    """Encode every candidate that is not protected, with fallbacks where its shape asks for one."""
    decisions, notes = [], []
    kept, specs = protected_tensors(arch, protect), stored(arch)
    for storage in candidates(arch, tables):
        if storage in kept:
            notes.append((storage, "protected"))
            continue
        dims = shape(specs[storage], arch)
        used = next((e for e in _attempts(encoding) if not e.refuses(dims)), None)
        if used is None:
            notes.append((storage, encoding.refuses(dims)))
            continue
        if used != encoding:
            notes.append((storage, f"{encoding.refuses(dims)}: {used.bits} bits, group {used.group or 'row'}"))
        decisions.append(Encode(storage, used))
    return Edit("rtn", tuple(decisions), notes=tuple(notes))


def _attempts(encoding: Affine) -> Iterator[Affine]:
    yield encoding
    group = encoding.group // 2
    while group >= 16:
        yield replace(encoding, group=group)
        group //= 2
    yield Affine(8, 0, encoding.symmetric)
