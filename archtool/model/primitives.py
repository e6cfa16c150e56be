"""The modules that parts become. They read their sizes from their tensors at every call.

Everything is made on the meta device; values arrive by `load_state_dict(assign=True)` or by `init`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archtool.ir import parts
from archtool.ir.axes import Sizes
from archtool.ir.encodings import DENSE, Dense, Encoding, matrix
from archtool.model.codec import decode, leaf_tensors


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last dimension, BatchNorm of its channels, GroupNorm and GRN over tokens too."""

    def __init__(self, part: parts.Norm, width: int) -> None:
        super().__init__()
        self.kind, self.eps, self.offset = part.kind, part.eps, part.offset
        if part.gain:
            self.weight = nn.Parameter(torch.empty(width, device="meta"))
        else:
            self.register_parameter("weight", None)
            self.register_buffer("width", torch.empty((width, 0)), persistent=False)
        has_bias = part.gain and part.kind != "rms" and part.bias
        self.bias = nn.Parameter(torch.empty(width, device="meta")) if has_bias else None
        if part.kind == "batch":
            self.register_buffer("running_mean", torch.empty(width, device="meta"))
            self.register_buffer("running_var", torch.empty(width, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D); RMS statistics in float32."""
        if self.kind == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        if self.kind == "group":
            return group_norm(x, self.weight, self.bias, self.eps)
        if self.kind == "batch":
            return self._batch_norm(x)
        if self.kind == "grn":
            return response_norm(x, self.weight, self.bias, self.eps)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        if self.offset:
            return (normed * (self.offset + self.weight.to(wide.dtype))).to(x.dtype)
        return normed.to(x.dtype) if self.weight is None else self.weight * normed.to(x.dtype)

    def _batch_norm(self, x: Tensor) -> Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if not self.training:
            return batch_norm(x, mean, variance, self.weight, self.bias, self.eps)
        flat_ND = x.reshape(-1, x.shape[-1])
        return F.batch_norm(flat_ND, mean, variance, self.weight, self.bias, True, eps=self.eps).reshape(x.shape)


def batch_norm(
    x: Tensor, mean_D: Tensor, variance_D: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """BatchNorm of the last dimension by statistics that are given: one product and one sum, as they lie in memory."""
    inverse_D = (variance_D + eps).sqrt().reciprocal()  # rsqrt is less exact
    scale_D = inverse_D if weight is None else weight * inverse_D
    shift_D = -mean_D * scale_D if bias is None else bias - mean_D * scale_D
    return torch.addcmul(shift_D, x, scale_D)


def response_norm(x_BTD: Tensor, gain: Any, bias: Any, eps: float) -> Tensor:
    """Global response normalisation: each channel's norm over the tokens, relative to the mean of all channels'."""
    norms_B1D = torch.linalg.vector_norm(x_BTD, dim=1, keepdim=True)
    relative = norms_B1D / (norms_B1D.mean(dim=-1, keepdim=True) + eps)
    return torch.addcmul(bias, x_BTD, 1 + gain * relative)


def group_norm(x_BTD: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """GroupNorm of one group, over tokens and channels as they lie in memory."""
    normed = F.layer_norm(x_BTD, x_BTD.shape[1:], eps=eps)
    if weight is None:
        return normed
    return normed * weight if bias is None else torch.addcmul(bias, normed, weight)


class Encoded(nn.Module):
    """Base of modules whose weight is stored under an encoding; ``matrix`` decodes it."""

    def __init__(self, encoding: Encoding, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoding, self.columns = encoding, matrix(shape)[1]
        for name, tensor in leaf_tensors(encoding, shape, "meta").items():
            self.register_buffer(f"weight_{name}", tensor)

    def matrix(self) -> Tensor:
        """The decoded weight (rows, columns) in float32."""
        leaves = {n.removeprefix("weight_"): b for n, b in self.named_buffers(recurse=False)}
        return decode(self.encoding, leaves, self.columns)


class EncodedLinear(Encoded):
    """``y = x Wᵀ + b`` with an encoded weight."""

    def __init__(self, encoding: Encoding, shape: tuple[int, ...], bias: bool) -> None:
        super().__init__(encoding, shape)
        self.bias = nn.Parameter(torch.empty(shape[0], device="meta")) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        return F.linear(x, self.matrix().to(x.dtype), self.bias)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, part: Any) -> Tensor:
    """A convolution with the strides, padding and dilation of ``part``; the groups are those of the shapes.

    One along a sequence is computed on a grid of one row, where a stream keeps its channels innermost; a point-wise one
    on such a view is a matrix product, which copies nothing.
    """
    groups, dilation = x.shape[1] // weight.shape[1], part.dilation or (1,) * (weight.dim() - 2)
    moves = any(n != 1 for n in (*weight.shape[2:], *part.stride)) or any(part.padding)
    if groups == 1 and not moves and x.stride(1) == 1:
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    if weight.dim() == 3:
        stride, padding, dilation = (1, *part.stride), (0, *part.padding), (1, *dilation)
        row = F.conv2d(x.unsqueeze(2), weight.unsqueeze(2), bias, stride, padding, dilation, groups)
        return row.squeeze(2)
    function = F.conv2d if weight.dim() == 4 else F.conv3d
    return function(x, weight, bias, part.stride, part.padding, dilation, groups)


class Conv(nn.Module):
    """A convolution whose channels and groups are those of its tensors."""

    def __init__(self, part: parts.Conv, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.part = part
        self.weight = nn.Parameter(torch.empty(shape, device="meta"))
        self.bias = nn.Parameter(torch.empty(shape[0], device="meta")) if part.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) or (B, C, H, W) → the same with other channels and extents."""
        return convolve(x, self.weight, self.bias, self.part)


class EncodedConv(Encoded):
    """A convolution with an encoded weight, stored as a matrix of its filters."""

    def __init__(self, encoding: Encoding, part: parts.Conv, shape: tuple[int, ...]) -> None:
        super().__init__(encoding, shape)
        self.part = part
        self.bias = nn.Parameter(torch.empty(shape[0], device="meta")) if part.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """See `Conv.forward`."""
        matrix_OI = self.matrix()
        kernels = matrix_OI.reshape(len(matrix_OI), -1, *self.part.kernel)
        return convolve(x, kernels.to(x.dtype), self.bias, self.part)


class EncodedTable(Encoded):
    """Rows of an encoded table: only the rows that are looked up are decoded."""

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids → (..., width)."""
        leaves = {n.removeprefix("weight_"): b[ids.reshape(-1)] for n, b in self.named_buffers(recurse=False)}
        return decode(self.encoding, leaves, self.columns).unflatten(0, ids.shape)


def _shape(spec: parts.TensorSpec, sizes: Sizes) -> tuple[int, ...]:
    return tuple(d.size(sizes) for d in spec.dims)


@singledispatch
def primitive(part: parts.Part, sizes: Sizes, encodings: Mapping[str, Encoding]) -> nn.Module | Tensor:
    """The module (or free tensor) of a part; ``encodings`` by leaf name (``"weight"``)."""
    raise TypeError(f"no module for a part of type {type(part).__name__}")


@primitive.register
def _(part: parts.Linear, sizes: Sizes, encodings: Mapping[str, Encoding]) -> nn.Module:
    out, inp = part.out.size(sizes), part.inp.size(sizes)
    encoding = encodings.get("weight", DENSE)
    if not isinstance(encoding, Dense):
        return EncodedLinear(encoding, (out, inp), part.bias)
    return nn.Linear(inp, out, part.bias, device="meta")


@primitive.register
def _(part: parts.Table, sizes: Sizes, encodings: Mapping[str, Encoding]) -> nn.Module:
    rows, width = part.rows.size(sizes), part.width.size(sizes)
    encoding = encodings.get("weight", DENSE)
    if not isinstance(encoding, Dense):
        return EncodedTable(encoding, (rows, width))
    return nn.Embedding(rows, width, device="meta")


@primitive.register
def _(part: parts.Conv, sizes: Sizes, encodings: Mapping[str, Encoding]) -> nn.Module:
    shape, encoding = _shape(part.tensors()[0], sizes), encodings.get("weight", DENSE)
    return Conv(part, shape) if isinstance(encoding, Dense) else EncodedConv(encoding, part, shape)


@primitive.register
def _(part: parts.Norm, sizes: Sizes, encodings: Mapping[str, Encoding]) -> nn.Module:
    return Norm(part, part.width.size(sizes))


@primitive.register
def _(part: parts.Vector, sizes: Sizes, encodings: Mapping[str, Encoding]) -> Tensor:
    empty = torch.empty(_shape(part.tensors()[0], sizes), device="meta")
    return nn.Parameter(empty) if part.kind is parts.Kind.PARAMETER else empty


@primitive.register
def _(part: parts.Witness, sizes: Sizes, encodings: Mapping[str, Encoding]) -> Tensor:
    return torch.empty(_shape(part.tensors()[0], sizes))


@primitive.register
def _(part: parts.Constant, sizes: Sizes, encodings: Mapping[str, Encoding]) -> Tensor:
    made: Tensor = part.source.values()
    return made


@primitive.register
def _(part: parts.Frequencies, sizes: Sizes, encodings: Mapping[str, Encoding]) -> Tensor:
    from archtool.operators.rotary import Rotary, frequencies

    assert isinstance(part.rotary, Rotary)
    return torch.tensor(frequencies(part.rotary), dtype=torch.float32)
