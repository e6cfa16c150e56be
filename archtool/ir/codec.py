"""Architectures, plans and edits to JSON and back.

Every dataclass becomes an object of its fields that differ from the defaults; operators and encodings carry their
``kind``. Reading is strict: unknown keys and kinds are errors.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from archtool.errors import InputError
from archtool.ir.encodings import ENCODINGS, Encoding
from archtool.ir.operator import Operator

T = TypeVar("T")
Lookup = Callable[[str], type[Operator]]
DECISIONS = ("Select", "Drop", "Encode", "Unshare", "Fold")
PLAIN = frozenset({int, float, str, bool})
"""Types that JSON has too; an edit holds a number for every unit of a model."""


def to_json(value: Any) -> Any:
    """Plain lists, dicts and scalars."""
    if type(value) in PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if isinstance(value, Operator | Encoding) else {}
        tag = {"is": type(value).__name__} if type(value).__name__ in DECISIONS else {}
        return {**tag, **kind, **{f.name: to_json(getattr(value, f.name)) for f in _changed(value)}}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def _changed(value: Any) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(value) if getattr(value, f.name) != f.default]


def from_json(cls: type[T], data: Any, lookup: Lookup, path: str = "$") -> T:
    """The dataclass that `to_json` wrote; ``lookup`` finds operators by kind."""
    if not isinstance(data, Mapping):
        raise InputError(
            f"{path}: expected an object, found {type(data).__name__}", "The file is not what it should be."
        )
    values = dict(data)
    actual: Any = cls
    if cls is Operator or issubclass(cls, Operator):
        actual = lookup(_pop_kind(values, path))
    elif issubclass(cls, Encoding):
        actual = _encoding(_pop_kind(values, path), path)
    hints = _hints(actual)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(f"{path}: {actual.__name__} has no {', '.join(unknown)}", "Written by a newer version?")
    made = {k: _value(hints[k], v, lookup, f"{path}.{k}") for k, v in values.items()}
    try:
        return actual(**made)  # type: ignore[no-any-return]
    except TypeError as error:
        raise InputError(f"{path}: {error}", "A key is missing.") from error


def _pop_kind(values: dict[str, Any], path: str) -> str:
    if "kind" not in values:
        raise InputError(f"{path}: no 'kind'", "Each operator and encoding names its kind.")
    return str(values.pop("kind"))


def _encoding(kind: str, path: str) -> type[Encoding]:
    if kind not in ENCODINGS:
        raise InputError(f"{path}: unknown encoding {kind!r}", f"Known: {', '.join(ENCODINGS)}.")
    return ENCODINGS[kind]


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _value(hint: Any, data: Any, lookup: Lookup, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _union(args, data, lookup, path)
    if origin is tuple:
        return _tuple(args, data, lookup, path)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, data, lookup, path)
    return _tupled(data)


def _union(args: tuple[Any, ...], data: Any, lookup: Lookup, path: str) -> Any:
    if data is None:
        return None
    named: dict[str, type[Any]] = {a.__name__: a for a in args if isinstance(a, type) and dataclasses.is_dataclass(a)}
    if isinstance(data, Mapping) and "is" in data:
        rest = {k: v for k, v in data.items() if k != "is"}
        if data["is"] not in named:
            raise InputError(f"{path}: unknown decision {data['is']!r}", f"Known: {', '.join(named)}.")
        return from_json(named[data["is"]], rest, lookup, path)
    if named and isinstance(data, Mapping):
        return from_json(next(iter(named.values())), data, lookup, path)
    return _tupled(data)


def _tuple(args: tuple[Any, ...], data: Any, lookup: Lookup, path: str) -> Any:
    if not isinstance(data, list | tuple):
        raise InputError(f"{path}: expected a list, found {type(data).__name__}", "")
    if len(args) == 2 and args[1] is Ellipsis:
        if args[0] in PLAIN:
            return _tupled(data)
        return tuple(_value(args[0], item, lookup, f"{path}[{i}]") for i, item in enumerate(data))
    if len(args) != len(data):
        raise InputError(f"{path}: expected {len(args)} items, found {len(data)}", "")
    return tuple(_value(a, item, lookup, f"{path}[{i}]") for i, (a, item) in enumerate(zip(args, data, strict=True)))


def _tupled(data: Any) -> Any:
    if not isinstance(data, list | tuple):
        return data
    return tuple(data) if PLAIN.issuperset(map(type, data)) else tuple(_tupled(item) for item in data)
