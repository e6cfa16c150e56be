"""What an operator is: a frozen specification that declares its parts, its cost, its legal edits and its maths.

An operator holds no sizes. Sizes live in the architecture under axis names (``"b3.attn.kv"``); the operator
reads them through its `Site`. `forward` is the maths on an ordinary module whose children carry the names of
the parts, so that one module serves every width its tensors may have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, Sizes, dim
from archtool.ir.parts import Conv, Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

SELECT = frozenset({"select"})
FREE = frozenset({"select", "map", "scale"})


@dataclass(frozen=True)
class Flow:
    """The shape of what runs along an edge, without its channels.

    Streams are always (batch × sequences, tokens / sequences, channels), grids row by row.

    Attributes:
        tokens: tokens per sample, over all its sequences.
        grid: rows and columns (frames, rows and columns), where the tokens are those of an image (a video).
        sequences: how many sequences a sample is cut into (windows, MobileViT's pixel positions, variates).
        beside: shapes of the further streams that enter the same layer (an encoder's output).
    """

    tokens: int
    grid: tuple[int, ...] | None = None
    sequences: int = 1
    beside: tuple[Flow, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of one sequence."""
        return self.tokens // self.sequences


@dataclass(frozen=True)
class Feed:
    """What one sample of a graph input holds.

    Attributes:
        shape: per dimension a number, or the name of an extent that the architecture states as a fact or that
            is free (``"length"``, ``"image_height"``, ``"frames"``).
        below: whole numbers under this one; 0: floating point.
    """

    shape: tuple[int | str, ...]
    below: int = 0


def feed_flow(shape: Sequence[int]) -> Flow:
    """The flow of one sample: (C, H, W) and (C, F, H, W) are grids, (T) and (T, C) sequences."""
    grid = tuple(shape[1:]) if len(shape) > 2 else None
    return Flow(math.prod(grid), grid) if grid else Flow(shape[0])


@dataclass(frozen=True)
class Site:
    """Where an operator stands: its full name and the dimensions of the streams that enter it."""

    name: str
    inputs: tuple[Dim, ...] = ()
    sizes: Sizes = field(default_factory=dict)

    def axis(self, local: str) -> str:
        """Full name of a local axis (``"kv"`` → ``"b3.attn.kv"``)."""
        return f"{self.name}.{local}"

    def dim(self, *factors: str | int) -> Dim:
        """A dimension whose string factors are local axes."""
        return dim(*(self.axis(f) if isinstance(f, str) else f for f in factors))

    def size(self, local: str) -> int:
        """Size of a local axis."""
        return self.sizes[self.axis(local)]

    @property
    def stream(self) -> Dim:
        """The dimension of the first stream that enters."""
        return self.inputs[0]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Base of all operators.

    Class attributes:
        kind: the name in architecture files and tables (``"mix.attn"``).
        local_axes: local axis → edits that are legal on it (``"select"``, ``"map"``, ``"scale"``).
        on_grid: whether it needs the rows and columns of its tokens (``ctx.flow.grid``).
        linear_in_length: whether its cost grows no faster than the number of tokens.
        constraints: in words, what widths, grids or lengths must satisfy.
        causal / windowed / order_bound: facts that searches and checks use.
        cost_form: multiply-adds per sample as a formula, in T (tokens) and the local axes.
        papers: numbers of the papers whose operator this is.
    """

    kind: ClassVar[str] = ""
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    on_grid: ClassVar[bool] = False
    linear_in_length: ClassVar[bool] = False
    constraints: ClassVar[tuple[str, ...]] = ()
    cost_form: ClassVar[str] = ""
    papers: ClassVar[tuple[int, ...]] = ()

    def parts(self, site: Site) -> tuple[Part, ...]:
        """The parts at this place."""
        raise TypeError(f"operator {self.kind} declares no parts")

    def out(self, site: Site) -> Dim:
        """Channels of the stream that leaves; default: those that entered."""
        return site.stream

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """Shape of what leaves; default: unchanged."""
        return flow

    def calls(self, part: Part, flow: Flow) -> int:
        """How many times per sample a linear part is applied; default: once per token."""
        return flow.tokens

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Multiply-adds per sample beyond the linear parts (attention products, scans, transforms)."""
        return 0

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """Those of `mixing_macs` that are no matrix product or convolution (scans, transforms)."""
        return 0

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """Small models that contain the operator, for the checks that every operator passes."""
        return ()

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """Graph inputs that this operator reads; ``name`` is the one that enters its block (stems)."""
        return {}

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Elements of memory that generation keeps per sample (KV cache, recurrent state)."""
        return 0

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Elements alive at this operator's peak per sample, beyond its input and output."""
        return 0

    def selected(self, local: str, keep: Any, per: str | None) -> Operator:
        """This operator after a selection on a local axis; default: unchanged (sizes live elsewhere)."""
        return self

    def followed(self, axis: str, keep: Any) -> Operator:
        """This operator after a selection on an axis that it uses and does not own (full name: a stream's width)."""
        return self

    def refuses(self, axis: str, keep: Any) -> str:
        """Why this operator does not take a selection of ``axis`` (full name); empty if it does."""
        return ""

    def feeder(self, norm: str) -> str:
        """The linear part or convolution whose result enters a norm as it is; empty if none does.

        ``norm`` is the layer's ``"branch"`` or a norm of the operator's own, which then is a setting of that name.
        """
        return ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """The linear parts that alone read what leaves a norm (as `feeder`, or ``"pre"``); empty if others read it."""
        return ()

    def with_bias(self, parts: Sequence[str]) -> Operator:
        """This operator with biases on these linear parts (others may get one too); default: its ``bias`` setting."""
        return replace(self, bias=True)  # type: ignore[call-arg]

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """The maths: ``m`` has a child per part, ``x`` is the stream (a tuple when several enter)."""
        raise TypeError(f"operator {self.kind} has no forward")


def linear_macs(operator: Operator, site: Site, flow: Flow) -> int:
    """Multiply-adds per sample of an operator's linear and convolution parts."""
    total = 0
    for part in operator.parts(site):
        if isinstance(part, Linear):
            matrix = part.out.size(site.sizes) * part.inp.size(site.sizes)
            total += matrix * operator.calls(part, flow)
        elif isinstance(part, Conv):
            per_place = part.out.size(site.sizes) * part.inp.size(site.sizes) * math.prod(part.kernel)
            total += per_place * operator.calls(part, flow)
    return total
