"""PyTorch pickles, read without running any code that they carry.

The list of tensors comes from `torch.load(weights_only=True)`; a tensor's data is then a range of the file
like any other, except for views that are not contiguous and for the format before PyTorch 1.6, which are
held in memory.
"""

import contextlib
import os
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.dtypes import safetensors_dtype
from archtool.checkpoint.header import TensorInfo, check_payload, open_raw
from archtool.errors import InputError

if TYPE_CHECKING:
    import torch

_CONVERT = (
    "archtool runs no code from a checkpoint: load the file in the tool that made it and save the tensors "
    "with safetensors.torch.save_file."
)


def read_pickle(path: Path) -> tuple[tuple[TensorInfo, ...], dict[str, bytes]]:
    """The tensors of a pickle in its own order, and the bytes of those that no range of the file holds.

    Raises:
        InputError: the file is damaged, runs code, or is not a flat table of tensors.
    """
    with open_raw(path) as fd:
        check_payload(path, os.pread(fd, 64, 0))
        size_bytes = os.fstat(fd).st_size
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    listed = _check_table(path, _load(path, fake=zipped))
    infos = {name: _file_range(path, name, tensor, size_bytes) for name, tensor in listed.items()}
    held: dict[str, bytes] = {}
    if None in infos.values():
        loaded = _check_table(path, _load(path, fake=False)) if zipped else listed
        held = {name: _to_bytes(tensor) for name, tensor in loaded.items() if infos[name] is None}
    found = [info or _held_info(path, name, listed[name], len(held[name])) for name, info in infos.items()]
    return tuple(found), held


def _load(path: Path, fake: bool) -> Any:
    """What the pickle holds; with ``fake``, tensors know their place in the file but carry no data."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with warnings.catch_warnings(), FakeTensorMode() if fake else contextlib.nullcontext():
            warnings.simplefilter("ignore")  # torch's remarks on how the file was made
            return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} needs more than tensors to be read: {_reason(error)}", hint=_CONVERT) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        OSError,
    ) as error:
        raise InputError(f"{path} is not a readable PyTorch file: {_first_line(error)}", hint=_CONVERT) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0]


def _reason(error: Exception) -> str:
    """What the unpickler refused, without torch's advice to run the code after all."""
    text = str(error).partition("WeightsUnpickler error:")[2].strip()
    return text.splitlines()[0] if text else "it holds objects or code."


def _check_table(path: Path, loaded: Any) -> dict[str, "torch.Tensor"]:
    import torch

    if not isinstance(loaded, dict):
        raise InputError(f"{path} holds a {type(loaded).__name__}, not a table of tensors.", hint=_CONVERT)
    wrong = [str(name) for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        names = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
        raise InputError(f"{path} holds {len(wrong)} entries that are not tensors: {names}.", hint=_CONVERT)
    for name, tensor in loaded.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise InputError(f"{path}: tensor {name!r} is sparse or quantized by torch.", hint=_CONVERT)
    return {str(name): tensor for name, tensor in loaded.items()}


def _file_range(path: Path, name: str, tensor: "torch.Tensor", size_bytes: int) -> TensorInfo | None:
    """Where the data lies in the file, or None if it is not one range of it."""
    offset = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if offset is None or not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        return None
    start = int(offset) + int(tensor.storage_offset()) * tensor.element_size()
    stop = start + int(tensor.numel()) * tensor.element_size()
    if stop > size_bytes:
        return None
    return TensorInfo(name, safetensors_dtype(tensor.dtype), tuple(tensor.shape), path, start, stop)


def _held_info(path: Path, name: str, tensor: "torch.Tensor", nbytes: int) -> TensorInfo:
    return TensorInfo(name, safetensors_dtype(tensor.dtype), tuple(tensor.shape), path, 0, nbytes)


def _to_bytes(tensor: "torch.Tensor") -> bytes:
    import torch

    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
