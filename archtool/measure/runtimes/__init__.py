"""The programs that run a model, one file each; `get_runtime` finds one by name, plugins' included."""

from typing import cast

from archtool.measure.runtimes.base import Runtime
from archtool.registry import load

DEFAULT_RUNTIME = "onnxruntime"


def get_runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        UsageError: no such runtime.
        ResourceError: its package is not installed.
    """
    return cast(Runtime, load("runtimes", name)())
