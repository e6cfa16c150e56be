"""What every runtime promises: take a module or an ONNX file, give back something to call.

A runtime states what it really runs in (`Session.precision`) and every setting that moves a latency
(`Session.settings`), so that no number is printed without them.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from archtool.errors import ResourceError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


class Session(Protocol):
    """A model ready to run."""

    @property
    def precision(self) -> str:
        """What the arithmetic is really done in, for example ``fp32``."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The runtime's settings that move a latency."""

    def bind(self, inputs: "Mapping[str, Tensor]") -> Callable[[], object]:
        """A call without arguments on these inputs, converted beforehand: what is timed.

        It uses torch's current thread count; time it inside `archtool.measure.pinning.pinned`.
        """

    def run(self, inputs: "Mapping[str, Tensor]") -> "dict[str, np.ndarray[Any, Any]]":
        """Run once; outputs by name."""

    def close(self) -> None:
        """Release memory and files."""


class Runtime(Protocol):
    """A program that runs models."""

    @property
    def name(self) -> str:
        """The name given with ``--runtime``."""

    @property
    def version(self) -> str:
        """The version of the installed package."""

    @property
    def per_shape(self) -> bool:
        """True where a session serves one input shape only (it was compiled for it)."""

    @property
    def in_caller(self) -> bool:
        """True where one-threaded arithmetic runs in the calling thread, so that its CPU time can be read."""

    def prepare(
        self,
        model: "nn.Module | Path",
        example_inputs: "Mapping[str, Tensor]",
        threads: int,
        dtype: str = "fp32",
        dynamic: Mapping[str, Mapping[int, str]] | None = None,
    ) -> Session:
        """Load ``model`` (a module, or an ONNX file where the runtime reads them).

        Args:
            model: a module called as ``module(**inputs) -> dict``, or a path.
            example_inputs: inputs of the shape to be measured.
            threads: threads of the arithmetic.
            dtype: ``fp32``, or another that the runtime offers.
            dynamic: axes that vary in an exported graph; the default is batch and length.

        Raises:
            UsageError: a dtype or model kind that this runtime does not take.
            InputError: the model cannot be exported or compiled.
            ResourceError: the runtime is not installed.
        """


def import_runtime(package: str, install: str) -> ModuleType:
    """Import ``package``.

    Raises:
        ResourceError: it is not installed; the hint says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ResourceError(
            f"the runtime package {package} cannot be imported: {error}", hint=f"pip install '{install}'"
        ) from error


def get_torch_dtype(name: str) -> "torch.dtype":
    """``fp32``, ``bf16`` or ``fp16`` as a torch dtype.

    Raises:
        UsageError: any other name.
    """
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in dtypes:
        raise UsageError(f"no dtype is called {name!r}", hint=f"choose one of {', '.join(dtypes)}")
    return dtypes[name]


def require_module(model: "nn.Module | Path", runtime: str) -> "nn.Module":
    """The model, if it is a module.

    Raises:
        UsageError: it is a file, which only the ONNX runtimes read.
    """
    if isinstance(model, Path):
        raise UsageError(f"{model} is a file; the runtime {runtime} runs modules", hint="use --runtime onnxruntime")
    return model


def to_numpy(outputs: "Mapping[str, Tensor]") -> "dict[str, np.ndarray[Any, Any]]":
    """Tensors as arrays; half precisions as float32, which numpy can hold."""
    import torch

    halves = (torch.bfloat16, torch.float16)
    return {
        name: (value.float() if value.dtype in halves else value).detach().cpu().numpy()
        for name, value in outputs.items()
    }
