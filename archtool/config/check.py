"""Check a document against a pydantic class and say every mistake with its place.

Pydantic names a place by a path through the data (with the names of union members mixed in); this module
walks that path through the document and rewrites the message in the words of a recipe.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from archtool.config.document import Document, Loc
from archtool.errors import ArchtoolError, RecipeError, Where
from archtool.registry import suggestion

Model = TypeVar("Model", bound=BaseModel)


def check(document: Document, model: type[Model], data: Any, loc: Loc = ()) -> tuple[Model | None, list[ArchtoolError]]:
    """Validate ``data``, which stands at ``loc`` in the document; returns the model or all its errors."""
    try:
        return model.model_validate(data), []
    except ValidationError as problem:
        found = [_error(document, model, data, loc, detail) for detail in problem.errors()]
        return None, found


def _error(document: Document, model: type[BaseModel], data: Any, loc: Loc, detail: Any) -> ArchtoolError:
    inner = _within(data, detail["loc"])
    kind = detail["type"]
    name = _dotted(inner)
    if kind == "extra_forbidden":
        known = _known(model, inner[:-1])
        return RecipeError(
            f"unknown option `{inner[-1]}`{_inside(loc, inner[:-1])}",
            suggestion(str(inner[-1]), known),
            document.where_key((*loc, *inner)),
        )
    if kind == "missing":
        missing = detail["loc"][-1]
        hint = _description(model, (*inner, missing))
        return RecipeError(f"`{missing}` is missing{_inside(loc, inner)}", hint, document.where_key((*loc, *inner)))
    where = _inside_text(document.where_value((*loc, *inner)), detail)
    return RecipeError(_message(name or _dotted(loc) or "the recipe", detail), _hint(detail), where)


def _message(name: str, detail: Mapping[str, Any]) -> str:
    given, kind = detail.get("input"), detail["type"]
    context = detail.get("ctx", {})
    if kind in ("literal_error", "enum"):
        return f"`{name}: {given}` is not supported; choose {context['expected']}"
    if given is None:
        return f"`{name}` is empty here"
    if kind == "value_error":
        cause = context.get("error")
        return f"`{name}`: {cause.what if isinstance(cause, ArchtoolError) else cause}"
    said = detail["msg"].replace("valid tuple", "list").replace("valid dictionary", "mapping of names to values")
    message = said.removeprefix("Input ").removeprefix("should be ")
    wanted = message if message != said else f"valid ({message[:1].lower()}{message[1:]})"
    return f"`{name}` must be {wanted}, not {given!r}"


def _hint(detail: Mapping[str, Any]) -> str:
    if detail.get("input") is None:
        return "were the lines below it meant to be indented?"
    cause = detail.get("ctx", {}).get("error")
    return cause.hint if isinstance(cause, FieldError) else ""


class FieldError(ValueError):
    """A field validator's complaint that knows its hint and the column inside the text (from 0)."""

    def __init__(self, what: str, hint: str = "", column: int = 0) -> None:
        super().__init__(what)
        self.hint = hint
        self.column = column


def _inside_text(where: Where | None, detail: Mapping[str, Any]) -> Where | None:
    cause, given = detail.get("ctx", {}).get("error"), detail.get("input")
    if where is None or not isinstance(cause, FieldError) or not isinstance(given, str):
        return where
    start = where.text.find(given, where.column - 1)
    if start < 0:
        return where
    return Where(where.file, where.line, start + 1 + cause.column, where.text)


def _within(data: Any, path: tuple[str | int, ...]) -> Loc:
    """The part of pydantic's path that exists in the data, without the names of union members."""
    found: list[str | int] = []
    for part in path:
        in_dict = isinstance(data, dict) and part in data
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_dict or in_list:
            data = data[part]
            found.append(part)
    return tuple(found)


def _known(model: type[BaseModel], path: Loc) -> list[str]:
    """The option names accepted at ``path``."""
    inner = _model_at(model, path)
    return [info.alias or name for name, info in inner.model_fields.items()] if inner else []


def _description(model: type[BaseModel], path: Loc) -> str:
    inner = _model_at(model, path[:-1])
    info = inner.model_fields.get(str(path[-1])) if inner else None
    return (info.description or "") if info else ""


def _model_at(model: type[BaseModel], path: Loc) -> type[BaseModel] | None:
    for part in path:
        if isinstance(part, int):
            continue
        info = model.model_fields.get(part)
        inner = _models_in(info.annotation) if info else []
        if not inner:
            return None
        model = inner[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))


def _inside(loc: Loc, inner: Loc) -> str:
    path = _dotted((*loc, *inner))
    return f" in `{path}`" if path else ""
