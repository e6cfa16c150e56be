"""The parts that operators are made of, each with its tensors and their named dimensions.

An operator lists its parts; from them come the module (``model/build``), the axis table, the parameter
count and the names of the tensors. A tensor's role on an axis says what an edit does to it: a tensor that
*produces* an axis can be masked, scaled or mapped there; one that *consumes* it takes the inverse; an
*elementwise* one (a norm's gain) follows the selection; an *index* axis is looked up (vocabulary rows).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from archtool.ir.axes import Dim, dim


class Role(StrEnum):
    """What a tensor does on one of its dimensions."""

    PRODUCES = "produces"
    CONSUMES = "consumes"
    ELEMENTWISE = "elementwise"
    INDEX = "index"


class Kind(StrEnum):
    """How a tensor is held: trained, stored but not trained, or derived at build and never stored."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    DERIVED = "derived"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a part: its leaf name, dimensions and role on each of them.

    Attributes:
        name: leaf name inside the part (``"weight"``), or the full canonical name in the axis table.
        dims: one `Dim` per tensor dimension.
        roles: one `Role` per tensor dimension.
        kind: parameter, buffer or derived.
        init: ``"normal"``, ``"zeros"`` or ``"ones"``: the value before training.
        storage: full name of the tensor that holds the values (differs from ``name`` when tied).
    """

    name: str
    dims: tuple[Dim, ...]
    roles: tuple[Role, ...]
    kind: Kind = Kind.PARAMETER
    init: str = "normal"
    storage: str = ""


@dataclass(frozen=True)
class Part:
    """Base of all parts; ``tie`` names a part (``"embed.token"``) whose weight this one uses."""

    name: str

    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors of this part, by leaf name."""
        raise TypeError(f"{type(self).__name__} declares no tensors")


@dataclass(frozen=True)
class Linear(Part):
    """``y = x Wᵀ + b`` with ``W`` of shape (out, in)."""

    out: Dim
    inp: Dim
    bias: bool = True
    tie: str = ""

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight (out, in) and bias (out)."""
        weight = TensorSpec("weight", (self.out, self.inp), (Role.PRODUCES, Role.CONSUMES), storage=_tied(self.tie))
        bias = TensorSpec("bias", (self.out,), (Role.PRODUCES,), init="zeros")
        return (weight, bias) if self.bias else (weight,)


@dataclass(frozen=True)
class Table(Part):
    """A look-up table: row ``i`` (of axis ``rows``) is a vector on ``width``; ``scale`` multiplies it."""

    rows: Dim
    width: Dim
    scale: float = 1.0

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight (rows, width)."""
        return (TensorSpec("weight", (self.rows, self.width), (Role.INDEX, Role.PRODUCES)),)


@dataclass(frozen=True)
class Conv2d(Part):
    """A 2-D convolution; ``groups`` is taken from the tensors' shapes (depthwise when in = 1)."""

    out: Dim
    inp: Dim
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    bias: bool = True

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight (out, in, kh, kw) and bias (out)."""
        dims = (self.out, self.inp, dim(self.kernel[0]), dim(self.kernel[1]))
        roles = (Role.PRODUCES, Role.CONSUMES, Role.ELEMENTWISE, Role.ELEMENTWISE)
        bias = TensorSpec("bias", (self.out,), (Role.PRODUCES,), init="zeros")
        return (TensorSpec("weight", dims, roles), bias) if self.bias else (TensorSpec("weight", dims, roles),)


@dataclass(frozen=True)
class Vector(Part):
    """A free tensor: a class token, a position table, LayerScale gains, BatchNorm statistics."""

    dims: tuple[Dim, ...]
    roles: tuple[Role, ...]
    init: str = "normal"
    kind: Kind = Kind.PARAMETER

    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensor itself, without a leaf name."""
        return (TensorSpec("", self.dims, self.roles, self.kind, self.init),)


@dataclass(frozen=True)
class Norm(Part):
    """A LayerNorm (``kind="layer"``) or RMSNorm (``"rms"``) over ``width``.

    ``offset`` is added to the stored gain (Gemma stores gain - 1).
    """

    width: Dim
    kind: str = "layer"
    eps: float = 1e-5
    offset: float = 0.0
    bias: bool = True

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight (width) and, for LayerNorm with bias, bias (width)."""
        init = "zeros" if self.offset else "ones"
        weight = TensorSpec("weight", (self.width,), (Role.ELEMENTWISE,), init=init)
        bias = TensorSpec("bias", (self.width,), (Role.ELEMENTWISE,), init="zeros")
        return (weight, bias) if self.kind == "layer" and self.bias else (weight,)


@dataclass(frozen=True)
class Witness(Part):
    """A tensor without entries whose leading dimensions are axes, so that a module can read their sizes.

    A weight matrix does not tell heads from head dimensions; this does, and it is sliced with the rest,
    so that one module serves all widths.
    """

    dims: tuple[Dim, ...]

    def tensors(self) -> tuple[TensorSpec, ...]:
        """A derived tensor of shape (axes..., 0)."""
        roles = (Role.ELEMENTWISE,) * (len(self.dims) + 1)
        return (TensorSpec("", (*self.dims, dim(0)), roles, Kind.DERIVED, "zeros"),)


@dataclass(frozen=True)
class Frequencies(Part):
    """Rotary inverse frequencies on the axis of pairs, computed from ``rotary`` (`operators.rotary.Rotary`)."""

    dims: tuple[Dim, ...]
    rotary: Hashable

    def tensors(self) -> tuple[TensorSpec, ...]:
        """A derived tensor (pairs) or (kv, pairs)."""
        return (TensorSpec("", self.dims, (Role.ELEMENTWISE,) * len(self.dims), Kind.DERIVED, "zeros"),)


def _tied(part: str) -> str:
    return f"{part}.weight" if part else ""
