"""What a paper or a reference implementation states of an architecture, and whether it is so.

A whole number is exact. A number with a suffix (``3.76M``, ``1.8G``) is rounded or cut, so that it holds within one
unit of its last digit.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from archtool.config.check import FieldError

SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
FORM = re.compile(r"(\d+(?:\.(\d+))?)([KMGB])")


def interval(stated: int | str) -> tuple[int, int]:
    """The smallest and the largest number that a statement allows."""
    if isinstance(stated, int):
        return stated, stated
    number, decimals, suffix = _parts(stated)
    unit = Decimal(SUFFIXES[suffix]) / 10 ** len(decimals)
    middle = Decimal(number) * SUFFIXES[suffix]
    return int(middle - unit) + 1, int(middle + unit) - 1


def _parts(text: str) -> tuple[str, str, str]:
    found = FORM.fullmatch(text)
    if found is None:
        raise FieldError(f"{text!r} is no count", "write a whole number, or one such as 3.76M")
    return found[1], found[2] or "", found[3]


def _count(value: int | str) -> int | str:
    interval(value)
    return value


Count = Annotated[int | str, AfterValidator(_count)]


class Stated(BaseModel):
    """Numbers of an architecture as published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: Count = Field(description="such as 11915176, or 11.9M")
    macs: Count | None = Field(None, description="multiply-adds of one sample, such as 1.8G")
    source: str = Field(min_length=1, description="where the numbers are from: a paper's table, an implementation")

    def problem(self, found: Mapping[str, float]) -> str:
        """Which of the numbers is not what was found; empty if all are."""
        for name in ("parameters", "macs"):
            stated = getattr(self, name)
            if stated is None:
                continue
            low, high = interval(stated)
            if not low <= found[name] <= high:
                return f"{name}: {int(found[name]):,}, but {self.source} states {stated}"
        return ""
