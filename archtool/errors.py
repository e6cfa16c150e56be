"""Errors that a user can act on, each with the exit code that the command line returns.

Every error says what is wrong, where, and what to do about it. Anything that is not an
`ArchtoolError` is a bug in archtool (exit code 1).
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Where:
    """A place in a text file; ``line`` and ``column`` count from 1."""

    file: Path
    line: int
    column: int
    text: str = ""


class ArchtoolError(Exception):
    """Base of all errors that are the input's or the machine's fault, not archtool's.

    Args:
        what: one sentence that says what is wrong, with the numbers or names that show it.
        hint: what the user can do.
        where: the place in a recipe, space or name table, if there is one.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "", where: Where | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.where = where


class UsageError(ArchtoolError):
    """Arguments that contradict each other or name nothing (exit 2)."""

    exit_code = 2


class RecipeError(ArchtoolError):
    """A recipe, search space or name table that is not valid (exit 3)."""

    exit_code = 3


class InputError(ArchtoolError):
    """A model or data set that is unsupported, wrong or corrupt (exit 4)."""

    exit_code = 4


class ResourceError(ArchtoolError):
    """Will not fit, disk full or unwritable, or a dependency is missing (exit 5)."""

    exit_code = 5


class BudgetError(ArchtoolError):
    """No candidate meets the budget; the message names the nearest feasible points (exit 6)."""

    exit_code = 6


class QualityError(ArchtoolError):
    """A quality gate given with ``--require`` failed (exit 7)."""

    exit_code = 7


class MismatchError(ArchtoolError):
    """An exported or transformed model's output differs from what it must equal (exit 8)."""

    exit_code = 8


class ErrorList(ArchtoolError):
    """Several errors of one file, reported together; the exit code is the first one's."""

    def __init__(self, errors: list[ArchtoolError]) -> None:
        super().__init__("\n".join(error.what for error in errors))
        self.errors = errors
        self.exit_code = errors[0].exit_code
