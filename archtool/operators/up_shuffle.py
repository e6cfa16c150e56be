"""The way up: every token becomes a square of tokens (Shi et al. 2016, pixel shuffle; Swin-Unet's patch expanding)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class UpShuffle(Operator):
    """One linear layer to ``ratio²`` tokens, laid out as a square.

    Attributes:
        into: axis name of the channels that leave; ``""``: those that entered.
        ratio: rows and columns of the square.
        bias: whether there is a bias.
    """

    kind: ClassVar[str] = "up.shuffle"
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T ratio² D D'"
    papers: ClassVar[tuple[int, ...]] = ()

    into: str = ""
    ratio: int = 2
    bias: bool = False

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``expand`` (ratio² × out, in)."""
        return (Linear("expand", dim(self.ratio**2, *self.out(site).factors), site.stream, self.bias),)

    def out(self, site: Site) -> Dim:
        """The channels that leave."""
        return dim(self.into) if self.into else site.stream

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """A finer grid."""
        rows, columns = flow.grid or (0, 0)
        return Flow(flow.tokens * self.ratio**2, (rows * self.ratio, columns * self.ratio), flow.sequences)

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("expand",) if norm == "pre" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import alone, on_image

        return (
            on_image([alone(cls(into="up.width"))], [alone(cls(ratio=3, bias=True))], sizes={"up.width": 6}, image=8),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T ratio², D')."""
        cells = m.expand(x).unflatten(-1, (self.ratio, self.ratio, -1)).unflatten(1, tuple(ctx.flow.grid))
        return cells.transpose(2, 3).flatten(1, 4)
