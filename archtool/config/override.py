"""``--set steps.0.prune.budget=params=0.4x``: change one value of a document before it is checked.

The new value's place is the flag itself, so that a mistake in it is shown there.
"""

from pathlib import Path
from typing import Any

from archtool.config.document import Document, Loc, parse_yaml
from archtool.errors import UsageError, Where
from archtool.registry import suggestion

FLAG = Path("--set")


def override(document: Document, text: str) -> None:
    """Apply one ``path=value`` to the document; raises `UsageError` when the path leads nowhere."""
    path, equals, value = text.partition("=")
    parts = [part for part in path.strip().split(".") if part]
    if not equals or not parts:
        raise UsageError(f"--set needs path=value, not `{text}`", "for example --set seed=1", _place(text, path))
    if document.data is None:
        document.data = {}
    loc = _descend(document.data, parts, text)
    container = _at(document.data, loc[:-1])
    container[loc[-1]] = _value(value)
    _mark(document, loc, text)


def _descend(data: Any, parts: list[str], text: str) -> Loc:
    loc: list[str | int] = []
    for position, part in enumerate(parts):
        if isinstance(data, list):
            key: str | int = _index(data, part, loc, text)
        elif isinstance(data, dict):
            key = _key(data, part, loc, text)
        else:
            what = f"`{'.'.join(map(str, loc))}` is a single value and has no `{part}`"
            raise UsageError(what, "set the value itself", _place(text, part))
        loc.append(key)
        if position < len(parts) - 1:
            data = _enter(data, key)
    return tuple(loc)


def _index(data: list[Any], part: str, loc: list[str | int], text: str) -> int:
    if not part.isdigit() or int(part) >= len(data):
        what = f"`{'.'.join(map(str, loc))}` has {len(data)} entries; `{part}` is none of them"
        raise UsageError(what, f"count from 0 to {len(data) - 1}", _place(text, part))
    return int(part)


def _key(data: dict[str, Any], part: str, loc: list[str | int], text: str) -> str:
    if len(loc) == 2 and loc[0] == "steps" and part not in data:
        raise UsageError(f"step {loc[1]} has no `{part}`", suggestion(part, data), _place(text, part))
    return part


def _enter(data: Any, key: Any) -> Any:
    inner = data[key] if isinstance(data, list) else data.get(key)
    if inner is None:
        inner = data[key] = {}
    elif isinstance(inner, str) and key in ("model", "data"):
        inner = data[key] = {"path": inner}
    elif isinstance(inner, str) and isinstance(data, list):
        inner = data[key] = {inner: {}}  # a step written as its verb alone
    return inner


def _at(data: Any, loc: Loc) -> Any:
    for key in loc:
        data = data[key]
    return data


def _value(text: str) -> Any:
    return parse_yaml(text, FLAG).data if text else ""


def _mark(document: Document, loc: Loc, text: str) -> None:
    for key in [k for k in document.values if k[: len(loc)] == loc]:
        del document.values[key]
        document.keys.pop(key, None)
    path, _, value = text.partition("=")
    last = path.split(".")[-1]
    for length in range(1, len(loc)):  # sections that the flag itself makes
        document.values.setdefault(loc[:length], _place(text, str(loc[length - 1])))
    document.keys[loc] = _place(text, last)
    document.values[loc] = Where(FLAG, 1, len(text) - len(value) + 1, text)


def _place(text: str, part: str) -> Where:
    return Where(FLAG, 1, max(text.find(part), 0) + 1, text)
