"""A built model as an ONNX file, with named inputs and outputs and dynamic batch and length.

Modules are called by keyword and answer with a dictionary; ONNX has ordered lists. The order is fixed here,
once: inputs in the order of ``example_inputs``, outputs in the order of the module's dictionary. The graph
carries these names, and the file's metadata repeats them under ``archtool.inputs`` and ``archtool.outputs``.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError, ResourceError, UsageError

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

OPSET = 20
"""The ONNX operator set of every exported graph (what torch 2.13's exporter writes without conversion)."""

EXTERNAL_DATA_BYTES = 2_000_000_000
"""Weights above this size go to ``<name>.onnx.data``: a protobuf file ends at 2^31 - 1 bytes."""

_LENGTH_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "series")
_DECODER_INPUTS = ("decoder_input_ids", "decoder_attention_mask")


def default_dynamic(names: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """The axes that vary between calls: ``batch`` for every input, ``length`` for token and series inputs.

    What a decoder reads has a length of its own, ``decoder_length``.
    """
    lengths = dict.fromkeys(_LENGTH_INPUTS, "length") | dict.fromkeys(_DECODER_INPUTS, "decoder_length")
    return {name: {0: "batch", 1: lengths[name]} if name in lengths else {0: "batch"} for name in names}


def export_onnx(
    module: "nn.Module",
    example_inputs: "Mapping[str, Tensor]",
    path: Path,
    *,
    dynamic: Mapping[str, Mapping[int, str]],
) -> Path:
    """Write ``module`` as an ONNX graph of opset `OPSET` and check the file with ``onnx.checker``.

    Args:
        module: called as ``module(**inputs) -> dict[str, Tensor]``; exported in eval mode.
        example_inputs: one set of inputs; axes named in ``dynamic`` may have any size, 1 included.
        path: the ``.onnx`` file; its folder must exist.
        dynamic: input name → {axis: axis name}; axes with the same name have the same size in every call.

    Returns:
        ``path``.

    Raises:
        UsageError: ``dynamic`` names an input that is not there.
        InputError: the module does not export, or an axis that should vary is fixed by the module.
        ResourceError: the file cannot be written.
    """
    unknown = sorted(set(dynamic) - set(example_inputs))
    if unknown:
        raise UsageError(f"dynamic axes are given for {', '.join(unknown)}, which is no input of the model")
    output_names = _output_names(module, example_inputs)
    with _quiet(), _eval_mode(module):
        program = _trace(module, _resizable(example_inputs, dynamic), output_names, dynamic)
    _check_dynamic(program.model_proto, dynamic)
    program.model.metadata_props["archtool.inputs"] = json.dumps(list(example_inputs))
    program.model.metadata_props["archtool.outputs"] = json.dumps(output_names)
    try:
        program.save(path, external_data=_weight_bytes(module) > EXTERNAL_DATA_BYTES)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error}") from error
    _check_file(path)
    return path


def _output_names(module: "nn.Module", example_inputs: "Mapping[str, Tensor]") -> list[str]:
    import torch

    with torch.inference_mode(), _eval_mode(module):
        outputs = module(**example_inputs)
    if not isinstance(outputs, dict) or not outputs:
        raise InputError(f"{type(module).__name__} returns {type(outputs).__name__}, not a dict of tensors")
    return list(outputs)


def _trace(
    module: "nn.Module",
    inputs: "Mapping[str, Tensor]",
    output_names: list[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> Any:
    import torch

    try:
        with torch.no_grad():  # which attention kernel is traced depends on it, and with that the layout
            return torch.onnx.export(
                _positional(module, list(inputs), output_names),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=output_names,
                dynamic_shapes=(tuple(dict(dynamic.get(name, {})) for name in inputs),),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(
            f"{type(module).__name__} cannot be written as ONNX: {reason}",
            hint="measure it with --runtime torch instead",
        ) from error


def _positional(module: "nn.Module", input_names: list[str], output_names: list[str]) -> "nn.Module":
    """The module with positional arguments and a tuple of outputs, in the recorded order."""
    from torch import Tensor, nn

    class Positional(nn.Module):
        """Keyword call and dictionary answer, as ordered lists."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
            """Call by name, answer in order."""
            outputs = self.inner(**dict(zip(input_names, args, strict=True)))
            return tuple(outputs[name] for name in output_names)

    return Positional().eval()


def _resizable(inputs: "Mapping[str, Tensor]", dynamic: Mapping[str, Mapping[int, str]]) -> "dict[str, Tensor]":
    """Double dynamic axes of size 1: tracing would take that 1 for a constant."""
    resized = {}
    for name, value in inputs.items():
        for axis in dynamic.get(name, {}):
            if value.shape[axis] == 1:
                value = value.repeat_interleave(2, dim=axis)
        resized[name] = value
    return resized


def _check_dynamic(model: "onnx.ModelProto", dynamic: Mapping[str, Mapping[int, str]]) -> None:
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        fixed = [name for axis, name in dynamic.get(value.name, {}).items() if not dims[axis].dim_param]
        if fixed:
            raise InputError(f"the model fixes the axis {', '.join(fixed)} of {value.name}; it cannot vary")


def _weight_bytes(module: "nn.Module") -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _check_file(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the ONNX graph written to {path} is not valid: {error}") from error


@contextlib.contextmanager
def _eval_mode(module: "nn.Module") -> Iterator[None]:
    """Eval mode inside; every submodule's own mode is put back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes off stdout and stderr; errors still arrive as exceptions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
