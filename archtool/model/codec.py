"""The maths of encodings: tensors to leaves and back.

Affine (Jacob et al. 2018): ``w ≈ (q - zero) * scale``; symmetric 8-bit integers in [-127, 127], symmetric 4-bit
in [-7, 7] stored with an offset of 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import torch
from torch import Tensor

from archtool.checkpoint.values import largest_magnitude
from archtool.ir.encodings import Affine, Dense, Encoding

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip

PART_NUMEL = 2**18
"""Elements that are encoded at a time: their float32 copies stay in a core's cache."""


def leaf_tensors(encoding: Encoding, shape: tuple[int, ...], device: str) -> dict[str, Tensor]:
    """Empty leaves for a tensor of this shape."""
    return {
        leaf.name: torch.empty(leaf.shape, dtype=DTYPES[leaf.dtype], device=device) for leaf in encoding.leaves(shape)
    }


@singledispatch
def encode(encoding: Encoding, w_OI: Tensor) -> dict[str, Tensor]:
    """Round-to-nearest leaves of a matrix; rows are independent, so any block of rows may be given."""
    raise TypeError(f"no codec for {encoding.kind}")


@singledispatch
def decode(encoding: Encoding, leaves: Mapping[str, Tensor], columns: int) -> Tensor:
    """The matrix (rows, columns) that leaves stand for, in float32."""
    raise TypeError(f"no codec for {encoding.kind}")


@encode.register
def _(encoding: Dense, w_OI: Tensor) -> dict[str, Tensor]:
    return {"": w_OI.to(DTYPES[encoding.dtype]) if encoding.dtype else w_OI}


@decode.register
def _(encoding: Dense, leaves: Mapping[str, Tensor], columns: int) -> Tensor:
    return leaves[""].float()


@encode.register
def _(encoding: Affine, w_OI: Tensor) -> dict[str, Tensor]:
    step = max(1, PART_NUMEL // max(1, w_OI.shape[1]))
    parts = [_affine(encoding, part) for part in w_OI.split(step)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]


def _affine(encoding: Affine, w_OI: Tensor) -> dict[str, Tensor]:
    rows, columns = w_OI.shape
    grouped = w_OI.unflatten(1, (encoding.groups(columns), -1))
    quantized = _symmetric(encoding, grouped) if encoding.symmetric else _asymmetric(encoding, grouped.float())
    quantized["q"] = _pack(quantized["q"].reshape(rows, columns), encoding)
    return quantized


def _symmetric(encoding: Affine, w_OGI: Tensor) -> dict[str, Tensor]:
    """No quotient exceeds ``top`` by more than a rounding error, so that nothing has to be clipped."""
    top = 2 ** (encoding.bits - 1) - 1
    scale = (largest_magnitude(w_OGI) / top).clamp_min(torch.finfo(torch.float32).tiny)
    return {"q": (w_OGI.float() / scale[..., None]).round_(), "scale": scale}


def _asymmetric(encoding: Affine, w_OGI: Tensor) -> dict[str, Tensor]:
    top = 2**encoding.bits - 1
    low, high = w_OGI.amin(-1).clamp_max(0), w_OGI.amax(-1).clamp_min(0)
    scale = ((high - low) / top).clamp_min(torch.finfo(torch.float32).tiny)
    zero = torch.round(-low / scale).clamp(0, top)
    q = (w_OGI / scale[..., None]).add_(zero[..., None]).round_().clamp_(0, top)
    return {"q": q, "scale": scale, "zero": zero.to(torch.uint8)}


def _pack(q_OI: Tensor, encoding: Affine) -> Tensor:
    if encoding.bits == 8:
        return q_OI.to(torch.int8 if encoding.symmetric else torch.uint8)
    nibbles = (q_OI + 8 if encoding.symmetric else q_OI).to(torch.uint8)
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)


@decode.register
def _(encoding: Affine, leaves: Mapping[str, Tensor], columns: int) -> Tensor:
    q, scale = leaves["q"], leaves["scale"]
    if encoding.bits == 4:
        q = torch.stack((q & 15, q >> 4), dim=-1).flatten(-2)
    wide = q.float().unflatten(-1, (scale.shape[-1], -1))
    if not encoding.symmetric:
        wide = wide - leaves["zero"].float()[..., None]
    elif encoding.bits == 4:
        wide = wide - 8
    return (wide * scale.float()[..., None]).flatten(-2)
