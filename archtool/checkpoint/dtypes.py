"""The dtypes a safetensors file may name: their width, their torch type and their place in a file.

Source of the names and of the writing order: the safetensors format and its reference library.
"""

from typing import TYPE_CHECKING

from archtool.errors import InputError

if TYPE_CHECKING:
    import torch

DTYPE_BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one element, listed in rising order of rank: a file stores the highest rank first."""

DTYPE_RANK: dict[str, int] = {dtype: rank for rank, dtype in enumerate(DTYPE_BITS)}

_TORCH_NAMES: dict[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}


def data_bits(dtype: str, numel: int) -> int:
    """Bits that ``numel`` elements of ``dtype`` take (KeyError: no such dtype in the format)."""
    return DTYPE_BITS[dtype] * numel


def data_bytes(dtype: str, numel: int) -> int:
    """Bytes that ``numel`` elements of ``dtype`` take, the last byte filled up."""
    return -(-data_bits(dtype, numel) // 8)


def torch_dtype(dtype: str) -> "torch.dtype":
    """The torch dtype of a safetensors dtype; raises InputError for those torch cannot hold (F4, F6)."""
    import torch

    found = getattr(torch, _TORCH_NAMES.get(dtype, ""), None)
    if not isinstance(found, torch.dtype):
        raise InputError(
            f"Tensors of dtype {dtype} cannot be computed on.",
            hint="Save the checkpoint with a dtype that torch holds, such as BF16 or F8_E4M3.",
        )
    return found


def safetensors_dtype(dtype: "torch.dtype") -> str:
    """The safetensors spelling of a torch dtype; raises InputError where the format has none."""
    spelled = str(dtype).removeprefix("torch.")
    for name, torch_name in _TORCH_NAMES.items():
        if torch_name == spelled:
            return name
    raise InputError(
        f"A tensor of dtype {spelled} has no place in a safetensors file.",
        hint="Convert it to a real or integer dtype in the tool that made it.",
    )
