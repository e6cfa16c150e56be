"""Pooling over tokens: one token's vector, the mean, or the last real token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Pool(Operator):
    """(B, T, D) → (B, D).

    Attributes:
        mode: ``"token"`` (the one at ``index``), ``"mean"`` (from token ``index`` on) or ``"last"`` (the last
            token that is not ``pad_id``, as decoders with a class head take it).
        index: which token, or where the mean starts.
        pad_id: padding id for ``"last"``; -1: the very last token.
    """

    kind: ClassVar[str] = "head.pool"
    cost_form: ClassVar[str] = "0"
    papers: ClassVar[tuple[int, ...]] = (14, 20, 38, 55, 66, 79, 132, 140, 196, 247)

    mode: str = "token"
    index: int = 0
    pad_id: int = -1

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def refuses(self, axis: str, keep: Any) -> str:
        """The padding token marks the last real one, so it cannot go."""
        if not self._marks(axis) or self.pad_id in keep:
            return ""
        return f"vocabulary entry {self.pad_id} is the padding token that marks the last real token"

    def followed(self, axis: str, keep: Any) -> Pool:
        """The padding token's id is its place among those that are left."""
        return replace(self, pad_id=tuple(keep).index(self.pad_id)) if self._marks(axis) else self

    def _marks(self, axis: str) -> bool:
        return self.mode == "last" and self.pad_id >= 0 and axis == "vocab"

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """One vector."""
        return Flow(1)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import branch, in_text

        return (in_text([branch(Mlp(act="relu"), hidden=8)]),)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, D)."""
        if self.mode == "token":
            return x[:, self.index]
        if self.mode == "mean":
            return x[:, self.index :].mean(dim=1)
        return self._last(x, ctx)

    def _last(self, x_BTD: Tensor, ctx: Any) -> Tensor:
        import torch

        if self.pad_id < 0:
            return x_BTD[:, -1]
        ids = ctx.inputs[ctx.root]
        places = torch.arange(ids.shape[1], device=ids.device) * ids.ne(self.pad_id).int()
        return x_BTD[torch.arange(x_BTD.shape[0], device=ids.device), places.argmax(-1)]
