"""A metric of the user's own: ``my.py:metric``, a function ``(module, batches) -> dict[str, float]``.

The function may carry ``higher_is_better = {"name": True}`` as an attribute. The file is the user's own code,
run because the command line names it.
"""

import importlib.util
import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.spec import did_you_mean
from archtool.errors import InputError, UsageError, Where
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import Settings

if TYPE_CHECKING:
    from torch import nn

FORM = "write FILE.py:FUNCTION, with FUNCTION(module, batches) -> dict[str, float]"


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Call the function, check what it returns; errors of its code name its file and line."""
    path, function = load_function(settings.name)
    with settings.progress.phase(f"evaluate {settings.name}"):
        try:
            result = function(module, settings.batches)
        except Exception as error:
            raise _in_user_code(path, error) from error
    values = _checked(settings.name, result)
    stated = getattr(function, "higher_is_better", {})
    directions = {name: bool(stated[name]) for name in values if name in stated}
    return Metrics(settings.name, values, len(settings.batches.data), {}, directions)


def load_function(name: str) -> tuple[Path, Callable[..., Any]]:
    """The file and function of ``FILE.py:FUNCTION``.

    Raises:
        UsageError: not of this form, no such file, or no such function in it (its functions are listed).
        InputError: the file does not import.
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not file.endswith(".py") or not attribute.isidentifier():
        raise UsageError(f"{name!r} names no metric", FORM)
    spec = importlib.util.spec_from_file_location(f"archtool_user_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"{path}: no such file", FORM)
    loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except Exception as error:
        raise _in_user_code(path, error) from error
    function = getattr(loaded, attribute, None)
    if not callable(function):
        here = [key for key, value in vars(loaded).items() if callable(value) and not key.startswith("_")]
        hint = f"it has {', '.join(here) or 'none'}{did_you_mean(attribute, here)}"
        raise UsageError(f"{path}: no function {attribute!r}", hint)
    return path, function


def _in_user_code(path: Path, error: Exception) -> InputError:
    """An error that names the deepest line of the user's file in the traceback."""
    line, text = 1, ""
    if isinstance(error, SyntaxError) and error.lineno:
        line, text = error.lineno, (error.text or "").rstrip("\n")
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.lineno and Path(frame.filename).resolve() == path.resolve():
            line, text = frame.lineno, frame.line or ""
    what = f"{path}, line {line}: {type(error).__name__}: {error}"
    return InputError(what, "correct the metric's code", Where(path, line, 1, text))


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
