"""Functions of a user's own Python file, ``FILE.py:FUNCTION``: run because the command line names them."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from archtool.errors import InputError, UsageError, Where


def load_function(name: str, what: str, form: str) -> tuple[Path, Callable[..., Any]]:
    """The file and function of ``FILE.py:FUNCTION``; ``what`` it should be and the ``form`` are for messages.

    Raises:
        UsageError: not of this form, no such file, or no such function in it (its functions are listed).
        InputError: the file does not import.
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not file.endswith(".py") or not attribute.isidentifier():
        raise UsageError(f"{name!r} names no {what}", form)
    spec = importlib.util.spec_from_file_location(f"archtool_user_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"{path}: no such file", form)
    loaded = importlib.util.module_from_spec(spec)
    with beside(path), told(path, what):
        spec.loader.exec_module(loaded)
    function = getattr(loaded, attribute, None)
    if not callable(function):
        here = [key for key, value in vars(loaded).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(attribute, here, 1)
        like = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"{path}: no function {attribute!r}", f"it has {', '.join(here) or 'none'}{like}")
    return path, function


@contextmanager
def beside(path: Path) -> Iterator[None]:
    """Modules in the file's folder can be imported."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextmanager
def told(path: Path, what: str) -> Iterator[None]:
    """Errors of the user's code as an `InputError` that names the deepest line of the file in the traceback."""
    try:
        yield
    except Exception as error:
        line, text = 1, ""
        if isinstance(error, SyntaxError) and error.lineno:
            line, text = error.lineno, (error.text or "").rstrip("\n")
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.lineno and Path(frame.filename).resolve() == path.resolve():
                line, text = frame.lineno, frame.line or ""
        said = f"{path}, line {line}: {type(error).__name__}: {error}"
        raise InputError(said, f"correct the {what}'s code", Where(path, line, 1, text)) from error
