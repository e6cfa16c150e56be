"""Attention inside groups of tokens: a sequence is cut into equal slices that do not see each other.

Source: Shen et al. 2022 (SReT), section 3.4. Where the reference draws a random order of the tokens at every call (for
the second pass through a block), ``dealt`` deals them to the groups in turn, so that the same input has one output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Site
from archtool.operators.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class GroupAttention(Attention):
    """Softmax attention in each of several groups.

    Attributes:
        groups: how many; it divides the number of tokens.
        dealt: token ``i`` is in group ``i % groups``; else groups are runs of neighbours.
    """

    kind: ClassVar[str] = "mix.attn.group"
    cost_form: ClassVar[str] = "T D h (2 qk + 2 v) + h T² / groups (qk + v)"
    constraints: ClassVar[tuple[str, ...]] = ("groups divide the tokens", "no padding")
    papers: ClassVar[tuple[int, ...]] = (5, 14, 44)

    groups: int = 2
    dealt: bool = False

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """That of attention, on sequences of a group's length."""
        heads, head = site.size("kv") * site.size("group"), self.head_dim(site).size(site.sizes)
        return heads * flow.tokens * (flow.length // self.groups) * (head + site.size("v"))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, on_image

        sizes = {"kv": 2, "group": 2, "qk": 4, "v": 4}
        both = ([branch(cls(scale=0.5, groups=4, dealt=dealt), **sizes)] for dealt in (False, True))
        return (on_image(*both),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        sliced = x.unflatten(1, (-1, self.groups)).transpose(1, 2) if self.dealt else x.unflatten(1, (self.groups, -1))
        mixed = self.attend(m, sliced.flatten(0, 1), ctx).unflatten(0, (-1, self.groups))
        return mixed.transpose(1, 2).flatten(1, 2) if self.dealt else mixed.flatten(1, 2)
