"""One group of the channels of a stream that was put side by side: groups go to different mixers.

Source: Si et al. 2022 (Inception Transformer: pooling, convolution and attention on channel groups whose share
changes with depth). The stream is what `topo.join` leaves; a group is an axis of its own, so that its share can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.errors import InputError
from archtool.ir.axes import Concat, Dim, concat, dim
from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part, Witness

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ChannelSplit(Operator):
    """The channels of group ``index``."""

    kind: ClassVar[str] = "topo.chsplit"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0"
    constraints: ClassVar[tuple[str, ...]] = ("a stream of several groups side by side",)
    papers: ClassVar[tuple[int, ...]] = (43, 71, 141, 183)

    index: int

    def groups(self, site: Site) -> tuple[Dim, ...]:
        """The groups of the stream that enters."""
        only = site.stream.factors[0]
        if len(site.stream.factors) != 1 or not isinstance(only, Concat) or self.index >= len(only.parts):
            what = f"{site.name} takes group {self.index} of the stream ({site.stream}), which does not have it"
            raise InputError(what, "Put groups side by side with topo.join before.")
        return only.parts

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Sizes of the groups in front and of the own one."""
        groups = self.groups(site)
        own = Witness("own", (groups[self.index],))
        return (own, Witness("before", (dim(concat(*groups[: self.index])),))) if self.index else (own,)

    def out(self, site: Site) -> Dim:
        """The channels of the group."""
        return self.groups(site)[self.index]

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.conv import GridConv
        from archtool.operators.dense import Dense
        from archtool.operators.join import Join
        from archtool.operators.samples import alone, followed, on_image

        arch = on_image([alone(Dense(act="relu"), units=6)], image=8)
        arch = followed(arch, Join(), ("b0", "embed"), name="all")
        arch = followed(followed(arch, cls(index=0), name="high"), GridConv(depthwise=True), name="conv")
        arch = followed(arch, cls(index=1), ("all",), name="low")
        return (followed(arch, Join(), ("conv", "low")),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, Σ Dᵢ) → (B, T, D)."""
        first = m.before.shape[0] if self.index else 0
        return x[..., first : first + m.own.shape[0]]
