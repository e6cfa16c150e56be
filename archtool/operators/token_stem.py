"""Token embedding: word table, optional position (learned or sinusoidal) and segment tables, summed.

Axes: ``vocab`` and ``positions`` are the architecture's own (shared with a tied head), as is the stream width.
``scale`` multiplies the word vectors (Gemma: the square root of the original width).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import SELECT, Feed, Flow, Operator, Site
from archtool.ir.parts import Constant, Part, Table
from archtool.operators.sinusoid import Sinusoid

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class TokenStem(Operator):
    """Word + position + segment vectors.

    Attributes:
        width / vocab: axis names of the stream and of the vocabulary.
        positions / types: axis names of the position and segment tables, or ``""``.
        tie: word table of another stem that is used (``"embed.tokens.token"``: a decoder's, the encoder's).
        sinusoid: a position table that is computed, or None.
        scale: factor on the word vectors.
        pad_offset: RoBERTa's positions: ``pad_offset`` is the padding id; real tokens count on from there,
            padding stays there; -1: positions count from 0 for every token.
        first_position: added to every position (OPT-like tables), with ``pad_offset=-1``.
    """

    kind: ClassVar[str] = "stem.token"
    cost_form: ClassVar[str] = "0 (look-ups)"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"types": SELECT}
    papers: ClassVar[tuple[int, ...]] = (58, 86, 186, 224)

    width: str = "s0.width"
    vocab: str = "vocab"
    positions: str = ""
    types: str = ""
    tie: str = ""
    sinusoid: Sinusoid | None = None
    scale: float = 1.0
    pad_offset: int = -1
    first_position: int = 0

    def parts(self, site: Site) -> tuple[Part, ...]:
        """Tables ``token``, ``position``, ``segment`` and ``sinusoid`` on the stream width."""
        tables = (("position", self.positions), ("segment", self.types))
        parts: list[Part] = [Table("token", dim(self.vocab), dim(self.width), tie=self.tie)]
        parts += [Table(name, dim(axis), dim(self.width)) for name, axis in tables if axis]
        if self.sinusoid:
            parts.append(Constant("sinusoid", (dim(self.sinusoid.positions), dim(self.width)), self.sinusoid))
        return tuple(parts)

    def out(self, site: Site) -> Dim:
        """The stream width."""
        return dim(self.width)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """Token ids, and segment ids where there is a table of them."""
        ids = Feed(("length",), site.sizes[self.vocab])
        kinds = {"token_type_ids": Feed(("length",), site.sizes[self.types])} if self.types else {}
        return {name: ids, **kinds}

    def followed(self, axis: str, keep: Any) -> TokenStem:
        """Computed positions keep the waves of the channels that are left."""
        if self.sinusoid and axis == self.width:
            return replace(self, sinusoid=self.sinusoid.selected(keep))
        return self

    def refuses(self, axis: str, keep: Any) -> str:
        """Positions count from the padding id, so it must stay where it is."""
        if axis != self.vocab or self.pad_offset < 0 or tuple(keep[: self.pad_offset + 1])[-1:] == (self.pad_offset,):
            return ""
        return f"vocabulary entry {self.pad_offset} is the padding token that positions count from"

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.mlp import Mlp
        from archtool.operators.samples import alone, branch, model

        stem = alone(cls(positions="positions", types="embed.op.types", scale=2.0), types=2)
        facts = {"max_positions": 24}
        waves = alone(cls(sinusoid=Sinusoid(16, 25, 7.0), first_position=1))
        widths, blocks = {"vocab": 31, "s0.width": 16}, [[branch(Mlp(act="relu"), hidden=8)]]
        learned = model(("input_ids",), stem, blocks, {**widths, "positions": 24}, facts)
        return (learned, model(("input_ids",), waves, blocks, widths, facts))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T) ids → (B, T, D)."""
        import torch

        vectors = m.token(x)
        if self.scale != 1.0:
            vectors = vectors * torch.tensor(self.scale, dtype=vectors.dtype)
        if self.types:
            types = ctx.inputs.get("token_type_ids")
            vectors = vectors + m.segment(torch.zeros_like(x) if types is None else types)
        if self.sinusoid:
            return vectors + m.sinusoid[self._positions(x, ctx)].to(vectors.dtype)
        return vectors + m.position(self._positions(x, ctx)) if self.positions else vectors

    def _positions(self, ids: Tensor, ctx: Any) -> Tensor:
        if self.pad_offset < 0:
            return ctx.positions + self.first_position
        real = ids.ne(self.pad_offset).int()
        return (real.cumsum(dim=1).type_as(real) * real).long() + self.pad_offset

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """One extra copy of the stream while tables are summed."""
        return flow.tokens * site.sizes[self.width]
