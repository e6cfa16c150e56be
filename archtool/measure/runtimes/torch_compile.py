"""PyTorch compiled for one input shape with TorchInductor."""

import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archtool.errors import InputError
from archtool.measure.pinning import pinned
from archtool.measure.runtimes.base import require_module
from archtool.measure.runtimes.torch_eager import TorchSession, to_dtype

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Session


class TorchCompile:
    """The runtime ``torch-compile``; compiling needs a C++ compiler."""

    name = "torch-compile"
    per_shape = True
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
        """Compile for the shapes of ``example_inputs``, and run once so that compiling is over."""
        import torch
        from torch._dynamo.exc import TorchDynamoException

        module = to_dtype(require_module(model, self.name), dtype)
        compiled = torch.compile(_fresh_call(module), dynamic=False, fullgraph=True)
        session = TorchSession(compiled, dtype, threads, "compile")
        try:
            with pinned(threads):
                session.bind(example_inputs)()
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"torch.compile cannot compile {type(module).__name__} as one graph: {reason}",
                hint="use --runtime torch or onnxruntime",
            ) from error
        return session


def _fresh_call(module: "nn.Module") -> "Callable[..., dict[str, Tensor]]":
    """A function around ``module`` with a code object of its own.

    torch keeps a bounded number of compiled graphs per code object and falls back to eager beyond it; many
    models of one class would hit that bound, and eager would be timed under the name of compiled.
    """

    def call(**inputs: "Tensor") -> "dict[str, Tensor]":
        outputs: dict[str, Tensor] = module(**inputs)
        return outputs

    code = call.__code__.replace(co_name=f"call_{id(module)}")
    return types.FunctionType(code, call.__globals__, None, None, call.__closure__)
