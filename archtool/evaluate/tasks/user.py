"""A metric of the user's own: ``my.py:metric``, a function ``(module, batches) -> dict[str, float]``.

The function may carry ``higher_is_better = {"name": True}`` as an attribute. The file is the user's own code,
run because the command line names it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import Settings
from archtool.model import user_code

if TYPE_CHECKING:
    from torch import nn

FORM = "write FILE.py:FUNCTION, with FUNCTION(module, batches) -> dict[str, float]"


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Call the function, check what it returns; errors of its code name its file and line."""
    path, function = load_function(settings.name)
    with settings.progress.phase(f"evaluate {settings.name}"), user_code.told(path, "metric"):
        result = function(module, settings.batches)
    values = _checked(settings.name, result)
    stated = getattr(function, "higher_is_better", {})
    directions = {name: bool(stated[name]) for name in values if name in stated}
    return Metrics(settings.name, values, len(settings.batches.data), {}, directions)


def load_function(name: str) -> tuple[Path, Callable[..., Any]]:
    """The file and function of ``FILE.py:FUNCTION``; see `archtool.model.user_code.load_function`."""
    return user_code.load_function(name, "metric", FORM)


def _checked(name: str, result: object) -> dict[str, float]:
    if not isinstance(result, Mapping) or not result:
        raise InputError(f"{name} returned {type(result).__name__}, not a dict of numbers", FORM)
    values = {}
    for key, value in result.items():
        try:
            values[str(key)] = float(value)
        except (TypeError, ValueError) as error:
            what = f"{name} returned {value!r} for {key!r}, which is no number"
            raise InputError(what, FORM) from error
        if math.isnan(values[str(key)]):
            raise InputError(f"{name} returned NaN for {key!r}", "return finite numbers")
    return values
