"""Positions: what stems and operators know of the order of tokens."""

from __future__ import annotations

from typing import ClassVar

from archtool.constructs.base import Construct
from archtool.ir.architecture import Architecture
from archtool.operators.attention import Attention
from archtool.operators.patch_stem import PatchStem
from archtool.operators.rotary import Rotary
from archtool.operators.samples import alone, branch, in_text, model
from archtool.operators.token_stem import TokenStem

HEADS = {"kv": 2, "group": 2, "v": 4}


class Absolute(Construct):
    """A learned table of positions, for text and for images."""

    kind: ClassVar[str] = "pos.abs"
    said: ClassVar[str] = "TokenStem(positions=axis), PatchStem(positions=True)"
    papers: ClassVar[tuple[int, ...]] = (196, 224)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(part.name == "position" for place in arch.places for part in place.parts)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        text, body = alone(TokenStem(positions="positions")), [branch(Attention(scale=0.5), qk=4, **HEADS)]
        sizes = {"vocab": 31, "positions": 24, "s0.width": 16}
        image = alone(PatchStem(patch=(4, 4)), positions=17)
        facts = {"image_height": 16, "image_width": 16}
        return (
            model(("input_ids",), text, [body], sizes, {"max_positions": 24}),
            model(("pixel_values",), image, [body], {"channels": 3, "s0.width": 16}, facts),
        )


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


class NoPositions(Construct):
    """No positions: order comes from causality or from convolutions."""

    kind: ClassVar[str] = "pos.none"
    said: ClassVar[str] = "a stem without a table and mixers without positions"
    papers: ClassVar[tuple[int, ...]] = (79, 180)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return not Absolute.found(arch) and not Rotated.found(arch)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        return (in_text([branch(Attention(scale=0.5, causal=True), qk=4, **HEADS)]),)
