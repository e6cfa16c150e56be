"""Types for step options that mean more than their Python type."""

from typing import Annotated

from pydantic import AfterValidator

from archtool.budget.language import parse_budget
from archtool.config.check import FieldError
from archtool.errors import ArchtoolError


def _budget(text: str) -> str:
    try:
        parse_budget(text)
    except ArchtoolError as problem:
        raise FieldError(problem.what, problem.hint, problem.where.column - 1 if problem.where else 0) from problem
    return text


BudgetText = Annotated[str, AfterValidator(_budget)]
"""A budget kept as written; `archtool.budget.language.parse_budget` reads it."""
