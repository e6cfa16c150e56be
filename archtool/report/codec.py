"""Report ↔ JSON: strict both ways, so that nothing is lost or invented between a run and its report.

Numbers that JSON cannot say (a perplexity that overflowed) are written as the strings ``"inf"``, ``"-inf"``
and ``"nan"`` and read back as numbers where the field is a number.
"""

import dataclasses
import json
import math
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from archtool.errors import InputError
from archtool.report.data import Report
from archtool.report.derive import derived

SCHEMA = "archtool.report/1"


def to_dict(report: Report) -> dict[str, Any]:
    """The content of ``metrics.json``: schema, every field, and ``derived`` (verdict, ratios)."""
    return {"schema": SCHEMA, **encode(report), "derived": encode(derived(report))}


def dumps(report: Report) -> str:
    """``metrics.json`` as text: the same bytes for the same report."""
    return json.dumps(to_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def loads(text: str, source: str = "metrics.json") -> Report:
    """Read what `dumps` wrote; ``derived`` is not read but computed again.

    Raises:
        InputError: not JSON, another schema, or a field that is unknown, missing or of the wrong type.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{source} is not JSON: {error}.") from error
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        raise InputError(
            f"{source} is not a report: its schema is {found!r}, not {SCHEMA!r}.",
            hint="Give a run folder of this version of archtool.",
        )
    fields = {key: item for key, item in value.items() if key not in ("schema", "derived")}
    report = _decode(Report, fields, source)
    assert isinstance(report, Report)
    return report


def encode(value: Any) -> Any:
    """Plain JSON values of a dataclass tree."""
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _decode(kind: Any, value: Any, path: str) -> Any:
    """Turn a JSON value into ``kind``; ``path`` names the place for the error."""
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode(inner, value, path)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], item, f"{path}/{i}") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{path}/{key}") for key, item in value.items()}
    return _decode_scalar(kind, value, path)


def _decode_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float and value in ("inf", "-inf", "nan"):
        return float(value)
    if kind is float and type(value) in (int, float):
        return value
    if isinstance(kind, type) and type(value) is kind:
        return value
    expected = getattr(kind, "__name__", str(kind))
    raise InputError(f"{path} must be {expected}, but it is {value!r:.60}.")


def _decode_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{path} must be an object, but it is {value!r:.60}.")
    hints = get_type_hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    required = {field.name for field in dataclasses.fields(kind) if _is_required(field)}
    missing = sorted(required - value.keys())
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise InputError(f"{path} has the wrong fields: {problem}.")
    return kind(**{name: _decode(hints[name], item, f"{path}/{name}") for name, item in value.items()})


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
