"""OpenVINO on the CPU.

Where the processor has bf16, OpenVINO computes fp32 models in bf16 unless told otherwise: the precision is
set here always, and the one that the compiled model reports is what is printed.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError, UsageError
from archtool.measure.runtimes.base import import_runtime
from archtool.measure.runtimes.ort import get_onnx_file

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Session

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoSession:
    """A model compiled by OpenVINO, with one inference request.

    Args:
        compiled: an ``openvino.CompiledModel``.
        threads: threads of the inference.
        folder: the temporary folder that holds the graph, if it was exported for this session.
    """

    def __init__(self, compiled: Any, threads: int, folder: "tempfile.TemporaryDirectory[str] | None") -> None:
        self._compiled, self._request, self._folder = compiled, compiled.create_infer_request(), folder
        reported = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = {name: key for key, name in _PRECISIONS.items()}.get(reported, reported)
        self.settings: Mapping[str, str] = {
            "device": "CPU",
            "inference_precision": reported,
            "inference_threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
            "streams": str(compiled.get_property("NUM_STREAMS")),
            "asked_threads": str(threads),
        }

    def bind(self, inputs: "Mapping[str, Tensor]") -> Callable[[], object]:
        """A call on these inputs as arrays, without copies; inputs the graph does not read are left out."""
        names = [port.get_any_name() for port in self._compiled.inputs]
        missing = [name for name in names if name not in inputs]
        if missing:
            raise InputError(f"the graph wants the input {', '.join(missing)}; got {', '.join(inputs)}")
        arrays = {name: inputs[name].detach().contiguous().numpy() for name in names}
        request = self._request
        return lambda: request.infer(arrays, share_inputs=True, share_outputs=True)

    def run(self, inputs: "Mapping[str, Tensor]") -> "dict[str, np.ndarray[Any, Any]]":
        """Run once; outputs by name, copied."""
        self.bind(inputs)()
        return {port.get_any_name(): self._request.get_tensor(port).data.copy() for port in self._compiled.outputs}

    def close(self) -> None:
        """Release the model and its temporary folder."""
        self._request = self._compiled = None
        if self._folder is not None:
            self._folder.cleanup()


class OpenVino:
    """The runtime ``openvino`` (an extra)."""

    name = "openvino"
    per_shape = False
    in_caller = False

    @property
    def version(self) -> str:
        """openvino's version."""
        return str(_openvino().__version__)

    def prepare(
        self,
        model: "nn.Module | Path",
        example_inputs: "Mapping[str, Tensor]",
        threads: int,
        dtype: str = "fp32",
        dynamic: Mapping[str, Mapping[int, str]] | None = None,
    ) -> "Session":
        """Read an ONNX file, or export a module and read that (see `Runtime.prepare`)."""
        openvino = _openvino()
        if dtype not in _PRECISIONS:
            raise UsageError(f"openvino has no precision {dtype!r}", hint=f"one of {', '.join(_PRECISIONS)}")
        path, folder = get_onnx_file(model, example_inputs, dynamic)
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return OpenVinoSession(openvino.Core().compile_model(str(path), "CPU", settings), threads, folder)


def _openvino() -> Any:
    return import_runtime("openvino", "archtool[openvino]")
