"""Attention whose scores are added to those of the attention before it (He et al. 2021, RealFormer; Nie et al. 2023).

Heads of a chain stand one upon another: `Witness` parts shared from each attention to the next say so, and a selection
of heads that differs between them, or a layer dropped out of the chain, is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Site
from archtool.ir.parts import Part, Witness
from archtool.operators.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ResidualAttention(Attention):
    """Softmax attention on ``q kᵀ scale`` plus the scores of ``after``.

    Attributes:
        after: place whose scores are added (``"b0.attn"``); ``""``: none, the first of a chain.
    """

    kind: ClassVar[str] = "mix.attn.residual"
    constraints: ClassVar[tuple[str, ...]] = ("as many heads and tokens as the attention whose scores it adds",)
    papers: ClassVar[tuple[int, ...]] = ()

    after: str = ""

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Those of attention; ``scores``, which the next of the chain shares as ``added``."""
        heads = (site.dim("kv"), site.dim("group"))
        added = (Witness("added", heads, tie=f"{self.after}.scores"),) if self.after else ()
        return (*super().parts(site), Witness("scores", heads), *added)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        first = branch(cls(scale=0.5, causal=True), kv=2, group=1, qk=4, v=4)
        return (in_text([first], [branch(cls(scale=0.5, causal=True, after="b0.op"), kv=2, group=1, qk=4, v=4)]),)

    def _mix(self, m: Any, q: Tensor, k: Tensor, v: Tensor, ctx: Any) -> Tensor:
        import torch

        scores = torch.matmul(q, k.transpose(2, 3)) * self.scale
        if self.after:
            scores = scores + ctx.noted(("scores", self.after))
        ctx.note(("scores", ctx.place), scores)
        mask = ctx.full_mask(self.causal, self.window)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, dim=-1) @ v
