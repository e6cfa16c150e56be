"""Types for step options that mean more than their Python type."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from archtool.budget.language import parse_budget
from archtool.config.check import FieldError
from archtool.errors import ArchtoolError
from archtool.registry import lookup


def _budget(text: str) -> str:
    try:
        parse_budget(text)
    except ArchtoolError as problem:
        raise FieldError(problem.what, problem.hint, problem.where.column - 1 if problem.where else 0) from problem
    return text


class _Input:
    """Marks an option whose value is a path (or hub id) that the step reads."""


INPUT = _Input()
InputPath = Annotated[str | None, INPUT]
"""A file, folder or ``FILE.py:NAME``: found beside the recipe too, and its content is part of the run's identity."""

BudgetText = Annotated[str, AfterValidator(_budget)]
"""A budget kept as written; `archtool.budget.language.parse_budget` reads it."""


def _criterion(name: str) -> str:
    from archtool.transforms.modules.criteria import CRITERIA

    try:
        return name if name in CRITERIA else lookup("criteria", name).name
    except ArchtoolError as problem:
        raise FieldError(problem.what, problem.hint) from problem


CriterionName = Annotated[str, AfterValidator(_criterion)]
"""A criterion by name: a registered one, or one of those for modules of a Python file."""


def split_items(value: Any) -> Any:
    """``"a,b"`` and ``["a,b", "c"]`` as a list of single items, so that flags may be repeated or joined by commas."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return [item for part in value for item in split_items(part)] if isinstance(value, (list, tuple)) else [value]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""Texts given one by one, as they are."""

Names = Annotated[tuple[str, ...], BeforeValidator(split_items)]
"""Words, separated by commas or given one by one."""

InputPaths = Annotated[tuple[str, ...], BeforeValidator(split_items), INPUT]
"""Several of them, separated by commas or given one by one."""

Numbers = Annotated[tuple[float, ...], BeforeValidator(split_items)]
"""Numbers, separated by commas or given one by one."""
