"""Which prefixes a model is to be nested at: fractions of the axes of some kinds, and of the depth.

Source: MatFormer (Devvrit et al. 2023) nests the hidden units of feed-forward layers; here any axis that allows a
prefix. The order in which blocks go is that of LayerDrop's "every other" (Fan et al. 2019), the last ones first.
"""

from __future__ import annotations

from collections.abc import Sequence

from archtool.errors import InputError, UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.edit import Drop, Edit, RefusedEdit, steps
from archtool.ir.nesting import Nesting, check_nesting
from archtool.ir.nesting_after import nested
from archtool.transforms.units import unit_axes
from archtool.transforms.widths import counts

DEPTH = "depth"
"""The kind of whole blocks, beside those of `archtool.transforms.units`."""


def nesting_of(
    arch: Architecture, kinds: Sequence[str], fractions: Sequence[float], multiple: int = 1,
    depth: Sequence[str] | None = None, protect: Sequence[str] = (),
) -> Nesting:  # fmt: skip
    """The nesting of every axis of some kinds at some fractions of it.

    Args:
        kinds: of `archtool.transforms.units.KINDS`, ``width`` and ``depth``.
        fractions: of each axis, ascending, the last 1.
        multiple: sizes are rounded down to one of this.
        protect: patterns of tensors that stay whole.
        depth: blocks in the order in which they go; None: `depth_order`. The smallest fraction says how many may go.

    Raises:
        UsageError: unknown kinds, or fractions that are not ascending and end with 1.
        InputError: the model has nothing of these kinds.
    """
    if not fractions or fractions[-1] != 1 or fractions[0] <= 0 or sorted(set(fractions)) != list(fractions):
        raise UsageError(f"levels are {', '.join(map(str, fractions))}", "give ascending fractions that end with 1")
    axes = unit_axes(arch, [kind for kind in kinds if kind != DEPTH], protect)
    tables = [counts(arch, axes, fraction, multiple) for fraction in fractions[:-1]]
    levels = ((axis, (*sorted({t[axis] for t in tables} - {arch.size[axis]}), arch.size[axis])) for axis in axes)
    blocks = depth_order(arch) if depth is None else tuple(depth)
    gone = int(len(droppable(arch)) * (1 - fractions[0]) + 1e-9) if DEPTH in kinds else 0
    found = nested(levels, blocks[:gone])
    if found is None:
        what = f"nothing of this model can be nested: it has no {', '.join(kinds)} with more than one level"
        raise InputError(what, "Choose other kinds or levels.")
    check_nesting(found, arch)
    return found


def depth_order(arch: Architecture) -> tuple[str, ...]:
    """The blocks that can be dropped, first to go first: every other one from the end, then those between."""
    blocks = droppable(arch)
    inner = blocks[1:-1] if len(blocks) > 2 else blocks[1:]
    return (*reversed(inner[0::2]), *reversed(inner[1::2]), *blocks[len(inner) + 1 :], *blocks[:1])


def droppable(arch: Architecture) -> list[str]:
    """The blocks that an edit may drop, in execution order."""
    return [block.name for block in arch.blocks if block.stage and _drops(arch, block.name)]


def _drops(arch: Architecture, block: str) -> bool:
    try:
        steps(arch, Edit(DEPTH, (Drop(block),)))
    except RefusedEdit:
        return False
    return True
