"""The parts that operators are made of, each with its tensors and their named dimensions.

An operator lists its parts; from them come the module (``model/build``), the axis table, the parameter
count and the names of the tensors. A tensor's role on an axis says what an edit does to it: a tensor that
*produces* an axis can be masked, scaled or mapped there; one that *consumes* it takes the inverse; an
*elementwise* one (a norm's gain) follows the selection; an *index* axis is looked up (vocabulary rows).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

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
        init: ``"normal"``, ``"zeros"``, ``"ones"``, ...: the value before training (`model.initial` has the kinds).
        storage: full name of the tensor that holds the values (differs from ``name`` when tied).
        encodable: whether its module computes with an encoded form.
    """

    name: str
    dims: tuple[Dim, ...]
    roles: tuple[Role, ...]
    kind: Kind = Kind.PARAMETER
    init: str = "normal"
    storage: str = ""
    encodable: bool = False


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
        roles = (Role.PRODUCES, Role.CONSUMES)
        weight = TensorSpec("weight", (self.out, self.inp), roles, storage=_tied(self.tie), encodable=True)
        bias = TensorSpec("bias", (self.out,), (Role.PRODUCES,), init="zeros")
        return (weight, bias) if self.bias else (weight,)


@dataclass(frozen=True)
class Table(Part):
    """A look-up table: row ``i`` (of axis ``rows``) is a vector on ``width``; ``scale`` multiplies it."""

    rows: Dim
    width: Dim
    scale: float = 1.0
    tie: str = ""

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight (rows, width)."""
        dims, roles = (self.rows, self.width), (Role.INDEX, Role.PRODUCES)
        return (TensorSpec("weight", dims, roles, storage=_tied(self.tie), encodable=True),)


@dataclass(frozen=True)
class Conv(Part):
    """A convolution over one dimension per entry of ``kernel``.

    The number of groups is what the tensors' shapes say: entering channels over ``inp``. A depthwise
    convolution has ``inp = dim(1)`` and is elementwise on ``out``, the channels that also enter; a bias produces
    them, since it makes something of nothing.
    """

    out: Dim
    inp: Dim
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    bias: bool = True
    dilation: tuple[int, ...] = ()

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a kernel of its own."""
        return self.inp == dim(1)

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight (out, in, *kernel) and bias (out)."""
        role = Role.ELEMENTWISE if self.depthwise else Role.PRODUCES
        dims = (self.out, self.inp, *map(dim, self.kernel))
        roles = (role, Role.CONSUMES, *(Role.ELEMENTWISE for _ in self.kernel))
        bias = TensorSpec("bias", (self.out,), (Role.PRODUCES,), init="zeros")
        weight = TensorSpec("weight", dims, roles, encodable=True)
        return (weight, bias) if self.bias else (weight,)


@dataclass(frozen=True)
class Conv1d(Conv):
    """A convolution along a sequence (B, C, T)."""

    stride: tuple[int, ...] = (1,)
    padding: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Conv2d(Conv):
    """A convolution on a grid (B, C, H, W)."""

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)


@dataclass(frozen=True)
class Conv3d(Conv):
    """A convolution over frames, rows and columns (B, C, F, H, W)."""

    stride: tuple[int, ...] = (1, 1, 1)
    padding: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True)
class Vector(Part):
    """A free tensor: a class token, a position table, LayerScale gains, a relative bias table.

    ``tie`` names a vector of another place (``"b0.attn.bias"``) whose values this one uses.
    """

    dims: tuple[Dim, ...]
    roles: tuple[Role, ...]
    init: str = "normal"
    kind: Kind = Kind.PARAMETER
    tie: str = ""

    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensor itself, without a leaf name."""
        return (TensorSpec("", self.dims, self.roles, self.kind, self.init, self.tie),)


@dataclass(frozen=True)
class Norm(Part):
    """A norm on ``width``: LayerNorm (``kind="layer"``), RMSNorm (``"rms"``), BatchNorm (``"batch"``),
    GroupNorm of one group (``"group"``: statistics over all tokens and channels) or global response normalisation
    (``"grn"``, Woo et al. 2023: each channel's norm over the tokens, relative to the mean of all channels').

    ``offset`` is added to the stored gain (Gemma stores gain - 1). BatchNorm keeps its running statistics as
    buffers, one entry per channel. Without ``gain`` the norm has no tensors (adaptive norms bring their own).
    """

    width: Dim
    kind: str = "layer"
    eps: float = 1e-5
    offset: float = 0.0
    bias: bool = True
    gain: bool = True

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight, bias (where there is one) and running statistics (BatchNorm), each (width)."""
        if not self.gain:
            return (TensorSpec("width", (self.width, dim(0)), (Role.ELEMENTWISE,) * 2, Kind.DERIVED, "zeros"),)
        specs = [self._spec("weight", "zeros" if self.offset else "ones")]
        if self.kind != "rms" and self.bias:
            specs.append(self._spec("bias", "zeros"))
        if self.kind == "batch":
            specs.append(self._spec("running_mean", "zeros", Kind.BUFFER))
            specs.append(self._spec("running_var", "ones", Kind.BUFFER))
        return tuple(specs)

    def _spec(self, name: str, init: str, kind: Kind = Kind.PARAMETER) -> TensorSpec:
        return TensorSpec(name, (self.width,), (Role.ELEMENTWISE,), kind, init)


@dataclass(frozen=True)
class Witness(Part):
    """A tensor without entries whose leading dimensions are axes, so that a module can read their sizes.

    A weight matrix does not tell heads from head dimensions; this does, and it is sliced with the rest,
    so that one module serves all widths. ``tie`` names a witness of another place (``"b0.attn.scores"``): the axes
    of both belong together, and a selection must keep the same entries at both.
    """

    dims: tuple[Dim, ...]
    tie: str = ""

    def tensors(self) -> tuple[TensorSpec, ...]:
        """A derived tensor of shape (axes..., 0)."""
        roles = (Role.ELEMENTWISE,) * (len(self.dims) + 1)
        return (TensorSpec("", (*self.dims, dim(0)), roles, Kind.DERIVED, "zeros", self.tie),)


class Source(Hashable, Protocol):
    """Where a constant comes from: frozen settings that compute it.

    A source with a ``kind`` of its own travels with exported code as a formula, others as numbers.
    """

    def values(self) -> Any:
        """The constant as a torch tensor."""


@dataclass(frozen=True)
class Constant(Part):
    """A tensor computed from ``source`` and never stored (an index table); equal sources share one tensor."""

    dims: tuple[Dim, ...]
    source: Source

    def tensors(self) -> tuple[TensorSpec, ...]:
        """A derived tensor, elementwise on its dimensions."""
        return (TensorSpec("", self.dims, (Role.ELEMENTWISE,) * len(self.dims), Kind.DERIVED, "zeros"),)


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
