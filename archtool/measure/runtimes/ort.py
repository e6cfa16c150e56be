"""ONNX Runtime on the CPU, with every thread setting stated."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError, UsageError
from archtool.measure.runtimes.base import import_runtime

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from archtool.measure.runtimes.base import Session

_SPIN = {"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"}
"""Threads spin during a run (the default) and stop at its end, so as not to disturb another session."""

_INT8_OPERATORS = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearMatMul", "MatMulInteger"}


class OrtSession:
    """A graph loaded in ONNX Runtime.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        precision: what the graph computes in.
        threads: intra-operator threads.
        folder: the temporary folder that holds the graph, if it was exported for this session.
    """

    def __init__(
        self, session: Any, precision: str, threads: int, folder: "tempfile.TemporaryDirectory[str] | None"
    ) -> None:
        self._session, self._folder = session, folder
        self.precision = precision
        self.settings: Mapping[str, str] = {
            "provider": session.get_providers()[0],
            "graph_optimization": "all",
            "intra_op_threads": str(threads),
            "inter_op_threads": "1",
            **{key.removeprefix("session."): value for key, value in _SPIN.items()},
        }

    def bind(self, inputs: "Mapping[str, Tensor]") -> "Callable[[], list[np.ndarray[Any, Any]]]":
        """A call on these inputs as arrays; inputs that the graph does not read are left out."""
        names = [value.name for value in self._session.get_inputs()]
        missing = [name for name in names if name not in inputs]
        if missing:
            raise InputError(f"the ONNX graph wants the input {', '.join(missing)}; got {', '.join(inputs)}")
        arrays = {name: inputs[name].detach().contiguous().numpy() for name in names}
        session = self._session
        return lambda: session.run(None, arrays)

    def run(self, inputs: "Mapping[str, Tensor]") -> "dict[str, np.ndarray[Any, Any]]":
        """Run once; outputs by name."""
        names = [value.name for value in self._session.get_outputs()]
        return dict(zip(names, self.bind(inputs)(), strict=True))

    def close(self) -> None:
        """Release the graph and its temporary folder."""
        self._session = None
        if self._folder is not None:
            self._folder.cleanup()


class OnnxRuntime:
    """The runtime ``onnxruntime``."""

    name = "onnxruntime"
    per_shape = False
    in_caller = True

    @property
    def version(self) -> str:
        """onnxruntime's version."""
        return str(import_runtime("onnxruntime", "archtool").__version__)

    def prepare(
        self,
        model: "nn.Module | Path",
        example_inputs: "Mapping[str, Tensor]",
        threads: int,
        dtype: str = "fp32",
        dynamic: Mapping[str, Mapping[int, str]] | None = None,
    ) -> "Session":
        """Load an ONNX file, or export a module and load that (see `Runtime.prepare`)."""
        if dtype != "fp32":
            raise UsageError(
                f"onnxruntime's CPU kernels compute in fp32, not {dtype}",
                hint="use --dtype fp32, a quantized ONNX file, or --runtime openvino",
            )
        path, folder = get_onnx_file(model, example_inputs, dynamic)
        return OrtSession(open_session(path, threads), read_precision(path), threads, folder)


def get_onnx_file(
    model: "nn.Module | Path",
    example_inputs: "Mapping[str, Tensor]",
    dynamic: Mapping[str, Mapping[int, str]] | None,
) -> "tuple[Path, tempfile.TemporaryDirectory[str] | None]":
    """The ONNX file of a model: itself, or a module exported to a temporary folder (the caller cleans up)."""
    if isinstance(model, Path):
        return model, None
    from archtool.export.onnx import default_dynamic, export_onnx

    folder = tempfile.TemporaryDirectory(prefix="archtool-onnx-")
    path = Path(folder.name) / "model.onnx"
    axes = default_dynamic(example_inputs) if dynamic is None else dynamic
    return export_onnx(model, example_inputs, path, dynamic=axes), folder


def open_session(graph: Path | bytes, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU with pinned thread counts and all optimizations.

    Raises:
        InputError: the graph cannot be read, or has no kernel.
    """
    onnxruntime = import_runtime("onnxruntime", "archtool")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    for key, value in _SPIN.items():
        options.add_session_config_entry(key, value)
    source = graph if isinstance(graph, bytes) else str(graph)
    state = onnxruntime.capi.onnxruntime_pybind11_state
    refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except (*refusals, state.NoSuchFile, state.NotImplemented) as error:
        raise InputError(f"onnxruntime cannot load the graph: {str(error).splitlines()[0]}") from error


def read_precision(path: Path) -> str:
    """What a graph computes in, from its operators and the types of its weights."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    floats = {item.data_type for item in graph.initializer} & {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
    base = "+".join(["fp32", *sorted(onnx.TensorProto.DataType.Name(kind).lower() for kind in floats)])
    if operators & _INT8_OPERATORS:
        return f"int8+{base}"
    return f"{base}, weights 4 bit" if "MatMulNBits" in operators else base
