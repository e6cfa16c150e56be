"""Norms: which kinds stand where. They are parts of layers, so that every operator may have any of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from archtool.constructs.base import Construct
from archtool.ir.architecture import Architecture, Layer, NormSpec
from archtool.ir.parts import Norm
from archtool.operators.attention import Attention
from archtool.operators.mlp import Mlp
from archtool.operators.samples import Sized, in_text, on_image


def norms(arch: Architecture) -> Iterator[Norm]:
    """Every norm of an architecture."""
    return (part for place in arch.places for part in place.parts if isinstance(part, Norm))


def _mlp(pre: NormSpec | None = None, branch: NormSpec | None = None, post: NormSpec | None = None) -> Sized:
    return Layer("op", Mlp(act="gelu"), pre=pre, branch=branch, post=post), {"hidden": 24}


class LayerNorms(Construct):
    """LayerNorm before, after or on a branch."""

    kind: ClassVar[str] = "norm.ln"
    said: ClassVar[str] = "NormSpec('layer') as a layer's pre, branch or post"
    papers: ClassVar[tuple[int, ...]] = (74, 260)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(norm.kind == "layer" for norm in norms(arch))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        norm = NormSpec()
        return (in_text([_mlp(pre=norm)], [_mlp(post=norm)], [_mlp(pre=norm, branch=norm)]),)


class RmsNorms(Construct):
    """RMSNorm, also with a gain stored less one."""

    kind: ClassVar[str] = "norm.rms"
    said: ClassVar[str] = "NormSpec('rms')"
    papers: ClassVar[tuple[int, ...]] = (145, 158, 203)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(norm.kind == "rms" for norm in norms(arch))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        return (in_text([_mlp(pre=NormSpec("rms"))], [_mlp(pre=NormSpec("rms", offset=1.0))]),)


class BatchNorms(Construct):
    """BatchNorm with running statistics, and GroupNorm of one group."""

    kind: ClassVar[str] = "norm.bn"
    said: ClassVar[str] = "NormSpec('batch') with two buffers, NormSpec('group')"
    papers: ClassVar[tuple[int, ...]] = (85, 92, 127, 252, 265)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(norm.kind in ("batch", "group") for norm in norms(arch))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        batch = NormSpec("batch")
        return on_image([_mlp(pre=batch)], [_mlp(branch=batch)]), on_image([_mlp(pre=NormSpec("group"))])


class QueryKeyNorms(Construct):
    """A norm on each head's queries and keys."""

    kind: ClassVar[str] = "norm.qk"
    said: ClassVar[str] = "Attention(qk_norm=NormSpec(...))"
    papers: ClassVar[tuple[int, ...]] = (98,)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(getattr(place.layer.op, "qk_norm", None) for place in arch.places)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        sizes = {"kv": 2, "group": 2, "qk": 4, "v": 4}
        ops = (Attention(scale=0.5, qk_norm=NormSpec("rms")), Attention(scale=0.5, qk_norm=NormSpec()))
        return tuple(in_text([(Layer("op", op, pre=NormSpec()), sizes)]) for op in ops)
