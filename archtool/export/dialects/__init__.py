"""The dialects, in the order in which ``auto`` tries them; each is a function from a checkpoint to a `Form`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from archtool.errors import UsageError
from archtool.export.base import Form
from archtool.model.checkpoint import Checkpoint

AUTO = ("stock", "sibling", "remote")
DIALECTS: Mapping[str, str] = {name: f"archtool.export.dialects.{name}" for name in (*AUTO, "padded", "native")}


def dialect(name: str) -> Callable[[Checkpoint], Form]:
    """The function of a dialect; it raises `DialectRefused` where it cannot say the model exactly."""
    if name not in DIALECTS:
        raise UsageError(f"unknown dialect {name!r}", f"Known: auto, {', '.join(DIALECTS)}.")
    form: Callable[[Checkpoint], Form] = import_module(DIALECTS[name]).form
    return form
