"""How one row of a name table is written: a family's tensor, several fused or stacked ones, and options.

A row is a name (``model.norm.weight``), or a mapping with one of ``tensor``, ``fuse`` or ``stack`` and the options
``transpose``, ``rotary``, ``lead`` and ``columns``; what is fused or stacked may be such mappings again. A placeholder
such as ``{i}`` stands for a number. It is bound by the file's tensor name, or by a ``stack`` (or ``fuse``) of one
pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from archtool.config.document import Document, Loc
from archtool.errors import RecipeError
from archtool.registry import suggestion

KINDS = ("tensor", "fuse", "stack")
OPTIONS = ("transpose", "rotary", "lead", "columns")
ROTARY = ("interleaved", "half")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_EXAMPLE = 'such as model.norm.weight, {stack: "model.layers.{i}.mlp.up_proj.weight"} or {fuse: [first, second]}'


@dataclass(frozen=True)
class Layout:
    """A row, or a part of one, as written.

    Attributes:
        kind: of `families.user_names.Node`.
        name: a pattern for ``"one"``.
        parts: what is fused or stacked.
        each: the only part is repeated for every value of its placeholder.
        loc: its place in the document.
        columns: the file's columns are (outer, inner) where the family's are (inner, outer); empty: alike.
    """

    kind: Literal["one", "fuse", "stack"]
    loc: Loc
    name: str = ""
    parts: tuple[Layout, ...] = ()
    each: bool = False
    transpose: bool = False
    lead: int = 0
    rotary: str = ""
    columns: tuple[int, ...] = ()

    def leaves(self) -> Iterator[Layout]:
        """The named parts, in order."""
        if self.kind == "one":
            yield self
        for part in self.parts:
            yield from part.leaves()


def placeholders(pattern: str) -> set[str]:
    """The placeholders of a pattern (``{"i"}``)."""
    return set(_PLACEHOLDER.findall(pattern))


def fill(pattern: str, binding: dict[str, int]) -> str:
    """A pattern with numbers for its placeholders."""
    return _PLACEHOLDER.sub(lambda found: str(binding[found[1]]), pattern)


def matcher(pattern: str) -> re.Pattern[str]:
    """What a pattern matches; the placeholders are named groups."""
    text, seen = "", set()
    for place, part in enumerate(_PLACEHOLDER.split(pattern)):
        if place % 2 == 0:
            text += re.escape(part)
        else:
            text += f"(?P={part})" if part in seen else rf"(?P<{part}>0|[1-9]\d*)"
            seen.add(part)
    return re.compile(text)


def parse_layout(document: Document, value: Any, loc: Loc) -> Layout:
    """A row of the table; raises `RecipeError` with its place."""
    where = document.where_value(loc)
    if isinstance(value, str) and value:
        return Layout("one", loc, value)
    if not isinstance(value, dict):
        raise RecipeError(f"a tensor is a name or a mapping, not {value!r}", _EXAMPLE, where)
    for key in value:
        if key not in (*KINDS, *OPTIONS):
            hint = suggestion(key, (*KINDS, *OPTIONS))
            raise RecipeError(f"unknown option `{key}`", hint, document.where_key((*loc, key)))
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        given = " and ".join(kinds) or "none"
        raise RecipeError(f"a layout has one of tensor, fuse and stack; here is {given}", _EXAMPLE, where)
    return _layout(document, kinds[0], value, loc)


def _layout(document: Document, kind: str, value: dict[str, Any], loc: Loc) -> Layout:
    inner = value[kind]
    at = (*loc, kind)
    transpose = _option(document, value, loc, "transpose", False, "true or false")
    lead = _option(document, value, loc, "lead", 0, "a number of leading dimensions of size 1")
    rotary = _option(document, value, loc, "rotary", "", " or ".join(ROTARY))
    columns = _columns(document, value, loc, kind)
    if kind == "tensor":
        if not isinstance(inner, str):
            raise RecipeError("`tensor` is one name", _EXAMPLE, document.where_value(at))
        return Layout("one", at, inner, (), False, transpose, lead, rotary, columns)
    each = not isinstance(inner, list)
    items = [(inner, at)] if each else [(item, (*at, index)) for index, item in enumerate(inner)]
    if not items:
        raise RecipeError(f"`{kind}` is empty", _EXAMPLE, document.where_value(at))
    parts = tuple(parse_layout(document, item, place) for item, place in items)
    name: Literal["fuse", "stack"] = "fuse" if kind == "fuse" else "stack"
    return Layout(name, at, "", parts, each, transpose, lead, rotary)


def _columns(document: Document, value: dict[str, Any], loc: Loc, kind: str) -> tuple[int, ...]:
    given = value.get("columns", [])
    numbers = isinstance(given, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in given)
    if "columns" in value and (kind != "tensor" or not numbers or len(given) != 2):
        what = f"`columns` is two numbers, and is said of a `tensor`, not {given!r}"
        raise RecipeError(what, "{tensor: head.weight, columns: [16, 42]}", document.where_value((*loc, "columns")))
    return tuple(given)


def _option(document: Document, value: dict[str, Any], loc: Loc, key: str, default: Any, expected: str) -> Any:
    given = value.get(key, default)
    wrong = type(given) is not type(default) or (key == "rotary" and key in value and given not in ROTARY)
    if wrong or (key == "lead" and given < 0):
        raise RecipeError(f"`{key}` is {expected}, not {given!r}", "", document.where_value((*loc, key)))
    return given


def check_placeholders(document: Document, layout: Layout, bound: set[str]) -> None:
    """Every placeholder is bound exactly once; raises `RecipeError` with its place."""
    where = document.where_value(layout.loc)
    if layout.kind == "one":
        _check_bound(layout.name, bound, document.where_value(layout.loc) or where)
        return
    if layout.each:
        free = set().union(*(placeholders(leaf.name) for leaf in layout.leaves())) - bound
        if len(free) != 1:
            listed = ", ".join(f"{{{name}}}" for name in sorted(free)) or "none"
            what = f"`{layout.kind}` of one pattern needs exactly one placeholder of its own, here: {listed}"
            raise RecipeError(what, 'write "model.layers.{i}.input_layernorm.weight", or a list of names', where)
        bound = bound | free
    for part in layout.parts:
        check_placeholders(document, part, bound)


def _check_bound(pattern: str, bound: set[str], where: Any) -> None:
    found = placeholders(pattern)
    for name in sorted(found - bound):
        hint = f"put {{{name}}} into the file's tensor name, or write {{stack: {pattern!r}}}"
        raise RecipeError(f"nothing says what {{{name}}} in `{pattern}` stands for", hint, where)
    for name in sorted(bound - found):
        hint = f"write {{{name}}} where the number stands"
        raise RecipeError(f"`{pattern}` lacks {{{name}}}: every {name} would be the same tensor", hint, where)
