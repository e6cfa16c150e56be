"""Which operator kinds there are; built-ins and plugins alike come from the one registry."""

from __future__ import annotations

from archtool.errors import InputError
from archtool.ir.operator import Operator
from archtool.registry import entries, load


def operator_class(kind: str) -> type[Operator]:
    """The operator of that kind."""
    if kind not in entries("operators"):
        raise InputError(f"unknown operator {kind!r}", f"Known operators: {', '.join(sorted(entries('operators')))}.")
    found: type[Operator] = load("operators", kind)
    return found
