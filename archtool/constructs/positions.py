"""Positions: what stems and operators know of the order of tokens."""

from __future__ import annotations

from typing import ClassVar

from archtool.constructs.base import Construct
from archtool.ir.architecture import Architecture
from archtool.ir.parts import Role
from archtool.operators.attention import Attention
from archtool.operators.biased_attention import BiasedAttention
from archtool.operators.rotary import Rotary
from archtool.operators.samples import branch, in_text
from archtool.operators.window_attention import WindowAttention

HEADS = {"kv": 2, "group": 2, "v": 4}


def absolute(arch: Architecture) -> bool:
    """Whether some stem or layer has a table of positions."""
    names = ("position", "table", "positions")
    return any(part.name in names for place in arch.places for part in place.parts)


class Rotated(Construct):
    """Rotary positions, on all or on a part of each head's dimensions."""

    kind: ClassVar[str] = "pos.rope"
    said: ClassVar[str] = "Attention(rotary=Rotary(...))"
    papers: ClassVar[tuple[int, ...]] = (13, 98, 236)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(getattr(place.layer.op, "rotary", None) for place in arch.places)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        whole = Attention(scale=0.5, causal=True, rotary=Rotary(theta=100.0, pairs=4))
        part = Attention(scale=0.5, causal=True, rotary=Rotary(theta=100.0, pairs=2, partial=True))
        return in_text([branch(whole, pairs=4, **HEADS)]), in_text([branch(part, pairs=2, qk=3, **HEADS)])


class Relative(Construct):
    """A bias on the scores by relative position, from a table that is looked up."""

    kind: ClassVar[str] = "pos.relbias"
    said: ClassVar[str] = "mix.attn.window (in windows), mix.attn.relbias (buckets of distances, may be tied)"
    papers: ClassVar[tuple[int, ...]] = (20, 37, 40, 91, 239)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        tensors = ((place, spec) for place in arch.places for part in place.parts for spec in part.tensors())
        mixers = (spec for place, spec in tensors if place.layer.op and place.layer.op.kind.startswith("mix."))
        return any(Role.INDEX in spec.roles for spec in mixers)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        return WindowAttention.samples()[:1] + BiasedAttention.samples()


class NoPositions(Construct):
    """No positions: order comes from causality or from convolutions."""

    kind: ClassVar[str] = "pos.none"
    said: ClassVar[str] = "a stem without a table and mixers without positions"
    papers: ClassVar[tuple[int, ...]] = (79, 180)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return not absolute(arch) and not Rotated.found(arch) and not Relative.found(arch)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        return (in_text([branch(Attention(scale=0.5, causal=True), qk=4, **HEADS)]),)
