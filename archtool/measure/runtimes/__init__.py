"""The programs that run a model, one file each; `get_runtime` finds one by name."""

import difflib
import importlib
from typing import cast

from archtool.errors import UsageError
from archtool.measure.runtimes.base import Runtime

RUNTIMES = {
    "torch": "archtool.measure.runtimes.torch_eager:TorchEager",
    "torch-compile": "archtool.measure.runtimes.torch_compile:TorchCompile",
    "onnxruntime": "archtool.measure.runtimes.ort:OnnxRuntime",
    "openvino": "archtool.measure.runtimes.openvino_cpu:OpenVino",
}
"""Runtime name → ``module:class``; nothing is imported before it is asked for."""

DEFAULT_RUNTIME = "onnxruntime"


def get_runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        UsageError: no such runtime.
        ResourceError: its package is not installed.
    """
    if name not in RUNTIMES:
        near = difflib.get_close_matches(name, RUNTIMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(RUNTIMES)}"
        raise UsageError(f"no runtime is called {name!r}", hint=hint)
    module, _, attribute = RUNTIMES[name].partition(":")
    return cast(Runtime, getattr(importlib.import_module(module), attribute)())
