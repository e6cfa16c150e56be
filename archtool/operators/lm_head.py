"""Language-model head: logits over the vocabulary, tied to the token table or not, scaled or soft-capped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class LmHead(Operator):
    """``logits = scale h Wᵀ + b``.

    Attributes:
        vocab: axis name of the vocabulary.
        tie: part whose weight is used (``"embed.tokens.token"``), or ``""`` for a weight of its own.
        bias: whether there is a bias.
        scale: factor on the hidden states (T5's tied head: one over the square root of the original width).
        softcap: ``cap * tanh(logit / cap)`` (Gemma-2), 0 for none.
    """

    kind: ClassVar[str] = "head.lm"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D vocab"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    papers: ClassVar[tuple[int, ...]] = (45, 48, 60, 86, 186, 224, 230)

    vocab: str = "vocab"
    tie: str = ""
    bias: bool = False
    scale: float = 1.0
    softcap: float = 0.0

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``proj`` (vocab, width)."""
        return (Linear("proj", dim(self.vocab), site.stream, self.bias, self.tie),)

    def out(self, site: Site) -> Dim:
        """The vocabulary."""
        return dim(self.vocab)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import alone, in_text

        tied = cls(tie="embed.tokens.token", softcap=5.0)
        return (in_text([alone(tied)]), in_text([alone(cls(bias=True, scale=0.5))]))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, V)."""
        import torch

        logits = m.proj(x if self.scale == 1.0 else x * self.scale)
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits
