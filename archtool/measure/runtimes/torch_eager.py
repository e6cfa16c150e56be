"""PyTorch as it is: eager, in inference mode."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.measure.pinning import pinned
from archtool.measure.runtimes.base import get_torch_dtype, require_module, to_numpy

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Session


class TorchSession:
    """A callable on torch tensors (a module, or its compiled form).

    Args:
        call: takes inputs by keyword, answers with a dictionary of tensors.
        precision: the floating dtype of weights and inputs: ``fp32``, ``bf16`` or ``fp16``.
        threads: intra-operator threads.
        mode: ``eager`` or ``compile``.
    """

    def __init__(self, call: "Callable[..., dict[str, Tensor]]", precision: str, threads: int, mode: str) -> None:
        self._call = call
        self.precision = precision
        self.threads = threads
        self.settings: Mapping[str, str] = {"mode": mode, "grad": "inference_mode"}

    def bind(self, inputs: "Mapping[str, Tensor]") -> "Callable[[], dict[str, Tensor]]":
        """A call on these inputs, floating ones cast to the precision."""
        import torch

        dtype, call = get_torch_dtype(self.precision), self._call
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}

        def run_once() -> "dict[str, Tensor]":
            with torch.inference_mode():
                return call(**cast)

        return run_once

    def run(self, inputs: "Mapping[str, Tensor]") -> "dict[str, np.ndarray[Any, Any]]":
        """Run once; outputs by name."""
        with pinned(self.threads):
            return to_numpy(self.bind(inputs)())

    def close(self) -> None:
        """Forget the module."""
        del self._call


class TorchEager:
    """The runtime ``torch``."""

    name = "torch"
    per_shape = False
    in_caller = True

    @property
    def version(self) -> str:
        """torch's version."""
        import torch

        return torch.__version__

    def prepare(
        self,
        model: "nn.Module | Path",
        example_inputs: "Mapping[str, Tensor]",
        threads: int,
        dtype: str = "fp32",
        dynamic: Mapping[str, Mapping[int, str]] | None = None,
    ) -> "Session":
        """See `archtool.measure.runtimes.base.Runtime.prepare`; ``dynamic`` has no meaning here."""
        return TorchSession(to_dtype(require_module(model, self.name), dtype), dtype, threads, "eager")


def to_dtype(module: "nn.Module", dtype: str) -> "nn.Module":
    """The module in eval mode and in ``dtype``; a copy, unless it is so already."""
    wanted = get_torch_dtype(dtype)
    floating = [p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()]
    if all(p.dtype == wanted for p in floating) and not any(part.training for part in module.modules()):
        return module
    return copy.deepcopy(module).to(wanted).eval()
