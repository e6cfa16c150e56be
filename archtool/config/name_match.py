"""A name table against a family's tensors and a file's: every row expanded, every mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from archtool.config.document import Document, Loc
from archtool.config.name_layout import Layout, fill, matcher, placeholders
from archtool.errors import ArchtoolError, InputError, RecipeError
from archtool.families.base import Family
from archtool.families.names import Entry, entry
from archtool.families.user_names import Node, Rotary, Shape, file_shape
from archtool.ir.architecture import Architecture
from archtool.ir.table import shape, stored
from archtool.registry import did_you_mean


@dataclass(frozen=True)
class Target:
    """A tensor that a table can name: one of the family's file tensors, or a part of a fused one.

    Attributes:
        entry: its layout in the family.
        shape: its shape there.
        whole: name of the family's file tensor that it is, or is a part of.
    """

    name: str
    entry: Entry
    shape: Shape
    whole: str


@dataclass(frozen=True)
class Row:
    """A file tensor and what is in it; ``loc`` is the row's place in the document."""

    file: str
    node: Node
    loc: Loc


def targets(arch: Architecture, family: Family) -> dict[str, Target]:
    """Everything that a table can name, by name, in the family's order."""
    specs = stored(arch)
    found: dict[str, Target] = {}
    for item in family.names(arch):
        shapes = [shape(specs[piece], arch) for piece in item.pieces]
        found[item.file] = Target(item.file, item, item.file_shape(shapes), item.file)
        if len(item.pieces) > 1:
            for piece, size in zip(item.pieces, shapes, strict=True):
                found[piece] = Target(piece, entry(piece, piece), size, item.file)
    return found


def rotary_heads(arch: Architecture) -> dict[str, tuple[int, int]]:
    """Storage ids of tensors whose rows are rotated queries or keys → (rows of a head, rotated pairs)."""
    from archtool.operators.attention import Attention

    found: dict[str, tuple[int, int]] = {}
    for place in arch.places:
        op = place.layer.op
        if isinstance(op, Attention) and op.rotary:
            sizes = (op.head_dim(place.site).size(arch.size), place.site.size("pairs"))
            for part in ("q", "k", "q_norm", "k_norm"):
                found.update({f"{place.name}.{part}.{end}": sizes for end in ("weight", "bias")})
    return found


class Expansion:
    """Turns rows as written into rows with numbers, collecting the mistakes."""

    def __init__(self, document: Document, known: Mapping[str, Target], arch: Architecture) -> None:
        self.document, self.known = document, known
        self.heads = rotary_heads(arch)
        self.problems: list[ArchtoolError] = []
        self.turned: set[Loc] = set()

    def row(self, file: str, layout: Layout, loc: Loc) -> list[Row]:
        """A row for every value of the placeholders in the file's tensor name."""
        unknown = [leaf for leaf in layout.leaves() if not self._values(leaf.name, {}, placeholders(leaf.name))]
        if unknown:
            self.problems += [self._unknown(leaf.name, leaf) for leaf in unknown]
            return []
        first = next(layout.leaves())
        rows: list[Row] = []
        try:
            for binding in self._values(first.name, {}, placeholders(file)):
                rows.append(Row(fill(file, binding), self._node(layout, binding, None), loc))
            self._check_rotary(layout)
        except RecipeError as problem:
            self.problems.append(problem)
        return rows

    def _values(self, pattern: str, binding: Mapping[str, int], wanted: Collection[str]) -> list[dict[str, int]]:
        """Bindings of the ``wanted`` placeholders under which the family has tensors, ascending."""
        found = [m.groupdict() for m in map(matcher(pattern).fullmatch, self.known) if m]
        numbers = [{key: int(value) for key, value in groups.items()} for groups in found]
        fitting = [n for n in numbers if all(n.get(key, value) == value for key, value in binding.items())]
        keys = sorted(wanted)
        return [dict(zip(keys, v, strict=True)) for v in sorted({tuple(n[key] for key in keys) for n in fitting})]

    def _node(self, layout: Layout, binding: Mapping[str, int], rotary: Layout | None) -> Node:
        rotary = layout if layout.rotary else rotary
        if layout.kind == "one":
            return self._leaf(layout, dict(binding), rotary)
        parts: Iterable[Node]
        if layout.each:
            part = layout.parts[0]
            first = next(part.leaves()).name
            values = self._values(first, binding, placeholders(first) - set(binding))
            parts = [self._node(part, {**binding, **value}, rotary) for value in values]
        else:
            parts = [self._node(part, binding, rotary) for part in layout.parts]
        if layout.kind == "stack" and layout.transpose:
            return Node("stack", "", tuple(map(_transposed, parts)), False, layout.lead)
        return Node(layout.kind, "", tuple(parts), layout.transpose, layout.lead)

    def _leaf(self, layout: Layout, binding: dict[str, int], rotary: Layout | None) -> Node:
        name = fill(layout.name, binding)
        if name not in self.known:
            raise self._unknown(name, layout)
        order = self._rotary(self.known[name], layout, rotary) if rotary else None
        return Node("one", name, (), layout.transpose, layout.lead, order, layout.columns)

    def _rotary(self, target: Target, layout: Layout, stated: Layout) -> Rotary | None:
        """The row order of a query or key tensor; others have none."""
        sizes = {self.heads[piece] for piece in target.entry.pieces if piece in self.heads}
        if not sizes:
            return None
        self.turned.add(stated.loc)
        if len(target.entry.pieces) > 1 or target.entry.transpose or len(sizes) > 1:
            parts = ", ".join(target.entry.pieces)
            what = f"`rotary` cannot be said of `{target.name}`, in which the family keeps several layouts"
            raise RecipeError(what, f"name its parts instead: {parts}", self.document.where_value(layout.loc))
        [(head, pairs)] = sizes
        rotary = stated.rotary
        if (rotary == "interleaved") == bool(target.entry.interleaved):
            return None
        return Rotary(head, pairs, 2) if rotary == "interleaved" else Rotary(head, 2, pairs)

    def _check_rotary(self, layout: Layout) -> None:
        """A ``rotary`` that reaches no query or key is a mistake."""
        if layout.rotary and layout.loc not in self.turned:
            what = f"`rotary: {layout.rotary}` reaches no query or key with rotary positions"
            raise RecipeError(what, "leave it out here", self.document.where_value(layout.loc))
        for part in layout.parts:
            self._check_rotary(part)

    def _unknown(self, name: str, layout: Layout) -> RecipeError:
        what = f"the model has no tensor `{name}`"
        return RecipeError(what, near(name, self.known), self.document.where_value(layout.loc))


def _transposed(node: Node) -> Node:
    if node.kind == "stack":
        return replace(node, parts=tuple(map(_transposed, node.parts)))
    return replace(node, transpose=not node.transpose)


def near(name: str, known: Iterable[str]) -> str:
    """A hint: the closest known name, or some of them."""
    names = list(known)
    if placeholders(name):
        names = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "{i}", found) for found in names))
    close = did_you_mean(name, names)
    return f"did you mean `{close}`?" if close else f"known: {some(names)}"


def some(names: Collection[str], limit: int = 6) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = f", … ({len(listed) - limit} more)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def claim_problems(document: Document, rows: Iterable[Row], known: Mapping[str, Target]) -> list[ArchtoolError]:
    """Tensors of the family that are claimed twice, or by no row."""
    claimed: dict[str, Row] = {}
    problems: list[ArchtoolError] = []
    for row in rows:
        for name in row.node.names():
            other = next((claimed[p] for p in known[name].entry.pieces if p in claimed), None)
            if other:
                line = getattr(document.where_key(other.loc), "line", 0)
                what = f"`{name}` is claimed twice: by `{other.file}` (line {line}) and by `{row.file}`"
                problems.append(RecipeError(what, "keep one of the two", document.where_key(row.loc)))
            claimed.update(dict.fromkeys(known[name].entry.pieces, row))
    missing = [name for name, target in known.items() if set(target.entry.pieces).isdisjoint(claimed)]
    parts = {t.whole for n, t in known.items() if n != t.whole and n in missing} - set(missing)
    missing = [n for n in missing if n == known[n].whole or known[n].whole in parts]
    if missing:
        what = f"{len(missing)} tensors of the model are in no row: {some(missing)}"
        fused = [part for part, target in known.items() if part != target.whole and target.whole in missing]
        apart = f"; a file that keeps fused tensors apart names their parts: {some(fused)}" if fused else ""
        hint = f"add them under `tensors`, or correct `config` if the model is smaller{apart}"
        problems.append(RecipeError(what, hint, document.where_key(("tensors",))))
    return problems


def shape_problems(
    document: Document, rows: Iterable[Row], known: Mapping[str, Target], found: Mapping[str, Shape]
) -> Iterator[InputError]:
    """File tensors whose shape is not what the row makes of the family's tensors."""
    shapes = {name: target.shape for name, target in known.items()}
    for row in rows:
        problem = _shape_problem(row, shapes, found[row.file]) if row.file in found else None
        if problem:
            yield InputError(*problem, document.where_key(row.loc))


def _shape_problem(row: Row, shapes: Mapping[str, Shape], found: Shape) -> tuple[str, str] | None:
    """What is wrong, and a hint."""
    hint = "it is made of " + some([f"{name} {list(shapes[name])}" for name in row.node.names()], 3)
    try:
        expected = file_shape(row.node, shapes)
    except ValueError as problem:
        return f"`{row.file}`: {problem}", hint
    if expected == found:
        return None
    if _shape(_transposed(row.node), shapes) == found:
        hint = "the file holds it the other way round: change `transpose`"
    return f"`{row.file}` is {list(found)} in the file; the table and config make it {list(expected)}", hint


def _shape(node: Node, shapes: Mapping[str, Shape]) -> Shape | None:
    try:
        return file_shape(node, shapes)
    except ValueError:
        return None
