"""Layouts of tensors under names of the user's own: what a file tensor is made of, and how to take it apart.

A `Node` is a small tree: one tensor of the family, several of them fused along their rows, or stacked along a new
first dimension. `file_shape` says which shape the file tensor must have; `unfold` gives, for each of the family's
tensors in it, the steps from the file tensor to that tensor. Both are pure; `model.renamed` carries the steps out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rotary:
    """Rows of each head, reordered: the file holds the turned ones as (outer, inner), the family (inner, outer).

    Attributes:
        head: rows of one head; those after the first ``outer * inner`` stay where they are.
    """

    head: int
    outer: int
    inner: int


@dataclass(frozen=True)
class Node:
    """One tensor (``name``), or ``parts`` that are fused or stacked.

    Attributes:
        kind: ``"one"``, ``"fuse"`` (along the rows) or ``"stack"`` (along a new first dimension).
        transpose: the file holds the matrix as (in, out); never on a stack, whose items say it.
        lead: leading dimensions of size 1 in the file.
        rotary: row order of a query or key projection where it is not the family's.
        columns: (outer, inner) of the file's columns where the family's are (inner, outer); empty: alike.
    """

    kind: Literal["one", "fuse", "stack"]
    name: str = ""
    parts: tuple[Node, ...] = ()
    transpose: bool = False
    lead: int = 0
    rotary: Rotary | None = None
    columns: tuple[int, ...] = ()

    def names(self) -> Iterator[str]:
        """The family's tensors in it, in order."""
        if self.kind == "one":
            yield self.name
        for part in self.parts:
            yield from part.names()


@dataclass(frozen=True)
class Step:
    """One step from a file tensor to a tensor of the family.

    ``squeeze (n)``, ``index (i)``, ``rows (first, stop)``, ``transpose ()``, ``rotary (head, outer, inner)`` or
    ``columns (outer, inner)``.
    """

    kind: Literal["squeeze", "index", "rows", "transpose", "rotary", "columns"]
    numbers: tuple[int, ...] = ()


def file_shape(node: Node, shapes: Mapping[str, Shape]) -> Shape:
    """Shape of the file tensor from the shapes of its tensors; ValueError says what does not fit together."""
    if node.kind == "one":
        shape = shapes[node.name]
        if node.columns and (len(shape) != 2 or prod(node.columns) != shape[1]):
            raise ValueError(f"columns {list(node.columns)} are not those of {list(shape)}")
    else:
        inner = [file_shape(part, shapes) for part in node.parts]
        shape = _stacked(inner) if node.kind == "stack" else _fused(inner)
    if node.transpose and len(shape) != 2:
        raise ValueError(f"only a matrix can be transposed, not {list(shape)}")
    return (*(1,) * node.lead, *(shape[::-1] if node.transpose else shape))


def _stacked(shapes: list[Shape]) -> Shape:
    if len(set(shapes)) > 1:
        raise ValueError(f"tensors of different shapes cannot be stacked: {_listed(shapes)}")
    return (len(shapes), *shapes[0])


def _fused(shapes: list[Shape]) -> Shape:
    if not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(f"these shapes cannot be fused along their rows: {_listed(shapes)}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _listed(shapes: list[Shape]) -> str:
    return ", ".join(str(list(shape)) for shape in dict.fromkeys(shapes))


def unfold(node: Node, shapes: Mapping[str, Shape], before: tuple[Step, ...] = ()) -> Iterator[tuple[str, list[Step]]]:
    """Each of the family's tensors with the steps that give it."""
    squeezed = (Step("squeeze", (node.lead,)),) if node.lead else ()
    steps = (*before, *squeezed, *((Step("transpose"),) if node.transpose else ()))
    if node.kind == "one":
        turned = [Step("rotary", (r.head, r.outer, r.inner)) for r in [node.rotary] if r]
        ordered = [Step("columns", node.columns)] if node.columns else []
        yield node.name, [*steps, *turned, *ordered]
    first = 0
    for index, part in enumerate(node.parts):
        if node.kind == "stack":
            yield from unfold(part, shapes, (*steps, Step("index", (index,))))
        else:
            stop = first + file_shape(part, shapes)[0]
            yield from unfold(part, shapes, (*steps, Step("rows", (first, stop))))
            first = stop


def contiguous(steps: list[Step], shape: Shape) -> tuple[int, Shape, list[Step]]:
    """The leading steps as one range: elements before it, its shape, and the steps that are left."""
    skipped = 0
    for done, step in enumerate(steps):
        if step.kind == "squeeze":
            shape = shape[step.numbers[0] :]
        elif step.kind in ("index", "rows"):
            skipped += step.numbers[0] * prod(shape[1:])
            shape = shape[1:] if step.kind == "index" else (step.numbers[1] - step.numbers[0], *shape[1:])
        else:
            return skipped, shape, steps[done:]
    return skipped, shape, []
