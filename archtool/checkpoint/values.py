"""Checks of the values that a checkpoint holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archtool.errors import InputError

if TYPE_CHECKING:
    import torch

_CHUNK_NUMEL = 2**18
_BITS = {"bfloat16": ("int16", 0x7F80), "float16": ("int16", 0x7C00), "float32": ("int32", 0x7F800000)}
"""Dtype → integers of its size, and the smallest one (without sign) that is infinite; larger ones are NaN."""

_FILE_BITS = {
    "BF16": ("<u2", 0x7FFF, 0x7F80), "F16": ("<u2", 0x7FFF, 0x7C00), "F32": ("<u4", 0x7FFFFFFF, 0x7F800000),
}  # fmt: skip
"""The same by safetensors dtype: integers of its size, all bits but the sign, and the smallest infinite one."""


def check_finite(tensor: "torch.Tensor", name: str) -> None:
    """Refuse a tensor with NaN or infinite values; takes memory for a few hundred thousand elements at a time.

    Raises:
        InputError: some values are not finite; the message counts them.
    """
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    nan = infinite = 0
    for chunk in _chunks(tensor.detach()):
        values = chunk.float() if chunk.element_size() == 1 else chunk
        if not _all_finite(values):
            nan += int(torch.isnan(values).sum())
            infinite += int(torch.isinf(values).sum())
    if nan or infinite:
        raise InputError(
            f"Tensor {name!r} holds {nan} NaN and {infinite} infinite values of {tensor.numel()}.",
            hint="The checkpoint is damaged or its training diverged: use an earlier one.",
        )


def check_finite_bytes(data: memoryview, dtype: str, name: str) -> None:
    """`check_finite` of numbers as they lie in a file, without torch where all are finite.

    Args:
        data: the numbers.
        dtype: their safetensors dtype.
        name: of their tensor, for the message.
    """
    import numpy as np

    known = _FILE_BITS.get(dtype)
    if known is not None:
        numbers = np.frombuffer(data, dtype=known[0])
        pieces = (numbers[i : i + _CHUNK_NUMEL] & known[1] for i in range(0, len(numbers), _CHUNK_NUMEL))
        if all(int(piece.max()) < known[2] for piece in pieces):
            return
    if dtype == "BOOL" or dtype[0] in "IU":
        return
    import torch

    from archtool.checkpoint.dtypes import torch_dtype

    check_finite(torch.frombuffer(bytearray(data), dtype=torch.uint8).view(torch_dtype(dtype)), name)


def _all_finite(values: "torch.Tensor") -> bool:
    """By the bits of the exponent: many times as fast as ``isfinite``."""
    import torch

    known = _BITS.get(_name(values))
    if known is None or values.numel() == 0:
        return bool(torch.isfinite(values).all())
    return int(_magnitude_bits(values, known[0]).amax()) < known[1]


def largest_magnitude(values: "torch.Tensor") -> "torch.Tensor":
    """``float().abs().amax(-1)``; the bits of floating-point numbers without sign are in the same order."""
    known = _BITS.get(_name(values))
    if known is None:
        return values.float().abs().amax(-1)
    return _magnitude_bits(values, known[0]).amax(-1).view(values.dtype).float()


def _name(values: "torch.Tensor") -> str:
    return str(values.dtype).removeprefix("torch.")


def _magnitude_bits(values: "torch.Tensor", integers: str) -> "torch.Tensor":
    import torch

    return values.view(getattr(torch, integers)) & (2 ** (8 * values.element_size() - 1) - 1)


def _chunks(tensor: "torch.Tensor") -> Iterator["torch.Tensor"]:
    """Pieces of a tensor of at most a few hundred thousand elements, without copying all of it."""
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(_CHUNK_NUMEL)
    elif tensor.numel() <= _CHUNK_NUMEL:
        yield tensor
    else:
        for row in tensor.unbind(0):
            yield from _chunks(row)
