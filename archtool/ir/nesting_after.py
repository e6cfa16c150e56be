"""What becomes of a nesting when its model is edited or renamed.

An axis keeps its sizes up to what is left of it. One that is cut otherwise than to a prefix (or reordered as a whole)
has none of the prefixes that it was trained for, so it is not nested any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from archtool.ir.architecture import Architecture
from archtool.ir.axes import Selection
from archtool.ir.edit import Step
from archtool.ir.nesting import Nesting
from archtool.ir.table import stored


def nesting_after(nesting: Nesting | None, step: Step) -> Nesting | None:
    """The nesting after one structural stage of an edit; None where nothing is nested any more."""
    if nesting is None:
        return None
    levels = {**nesting.sizes, **_copied(nesting, step)}
    left = (
        (axis, _left(sizes, step.selections.get(axis), step.before.size.get(axis, sizes[-1])))
        for axis, sizes in levels.items()
        if axis in step.after.size
    )
    return nested(left, (block for block in nesting.depth if block in step.after.index))


def nested(levels: Iterable[tuple[str, tuple[int, ...]]], depth: Iterable[str]) -> Nesting | None:
    """The nesting of the axes that have a choice left and of the blocks; None where there is nothing to choose."""
    some, blocks = tuple((axis, sizes) for axis, sizes in levels if len(sizes) > 1), tuple(depth)
    return Nesting(some, blocks) if some or blocks else None


def renamed_nesting(nesting: Nesting | None, before: Architecture, after: Architecture) -> Nesting | None:
    """The nesting under the block names of ``after``, by position; without axes that have another size there."""
    if nesting is None:
        return None
    names = {mine.name: theirs.name for mine, theirs in zip(before.blocks, after.blocks, strict=True)}

    def renamed(axis: str) -> str:
        head, dot, rest = axis.partition(".")
        return f"{names.get(head, head)}{dot}{rest}"

    moved = ((renamed(axis), sizes) for axis, sizes in nesting.levels)
    kept = ((axis, sizes) for axis, sizes in moved if after.size.get(axis) == sizes[-1])
    return nested(kept, (names[block] for block in nesting.depth))


def _left(sizes: tuple[int, ...], selection: Selection | None, size: int) -> tuple[int, ...]:
    """The sizes after a selection; none where the prefixes are gone."""
    if selection is None:
        return sizes
    count, everything = selection.count(), range(size)
    if count == size:
        rows = selection.keep if selection.per is not None else (selection.keep,)
        return sizes if all(sorted(row) == list(everything) for row in rows) else ()  # type: ignore[type-var, arg-type]
    if selection.per is not None or tuple(selection.keep) != tuple(range(count)):
        return ()
    return (*(n for n in sizes if n < count), count)


def _copied(nesting: Nesting, step: Step) -> dict[str, tuple[int, ...]]:
    """The sizes of axes that are new because their block has its own tensors now: those of the axes before."""
    found: dict[str, tuple[int, ...]] = {}
    for copy, source in step.copies.items():
        dims = zip(stored(step.after)[copy].dims, stored(step.before)[source].dims, strict=True)
        for mine, theirs in ((a, b) for new, old in dims for a, b in zip(new.axes(), old.axes(), strict=True)):
            if mine != theirs and theirs in nesting.sizes:
                found[mine] = nesting.sizes[theirs]
    return found
