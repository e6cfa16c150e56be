"""What an operator is: a frozen specification that declares its parts, its cost, its legal edits and its maths.

An operator holds no sizes. Sizes live in the architecture under axis names (``"b3.attn.kv"``); the operator
reads them through its `Site`. `forward` is the maths on an ordinary module whose children carry the names of
the parts, so that one module serves every width its tensors may have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, Sizes, dim
from archtool.ir.parts import Conv, Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

SELECT = frozenset({"select"})
FREE = frozenset({"select", "map", "scale"})


@dataclass(frozen=True)
class Flow:
    """The shape of what runs along an edge, without its channels.

    Streams are always (batch × sequences, tokens / sequences, channels), grids row by row.

    Attributes:
        tokens: tokens per sample, over all its sequences.
        grid: rows and columns, where the tokens are those of an image.
        sequences: how many sequences a sample is cut into (windows, MobileViT's pixel positions, variates).
    """

    tokens: int
    grid: tuple[int, int] | None = None
    sequences: int = 1


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
        causal / windowed / order_bound: facts that searches and checks use.
        papers: numbers of the papers whose operator this is.
    """

    kind: ClassVar[str] = ""
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
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

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Elements of memory that generation keeps per sample (KV cache, recurrent state)."""
        return 0

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Elements alive at this operator's peak per sample, beyond its input and output."""
        return 0

    def selected(self, local: str, keep: Any, per: str | None) -> Operator:
        """This operator after a selection on a local axis; default: unchanged (sizes live elsewhere)."""
        return self

    def refuses(self, axis: str, keep: Any) -> str:
        """Why this operator does not take a selection of ``axis`` (full name); empty if it does."""
        return ""

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
