"""Topologies: how blocks and layers stand to each other."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from archtool.constructs.base import Construct
from archtool.ir.architecture import Architecture, Block, Layer, place_flows, roots
from archtool.ir.feeds import entering
from archtool.operators.attention import Attention
from archtool.operators.conv import GridConv
from archtool.operators.cross_attention import CrossAttention
from archtool.operators.mlp import Mlp
from archtool.operators.samples import NORM, Sized, alone, branch, in_text, on_image

ATTENTION: Sized = Layer("mix", Attention(scale=0.5), pre=NORM), {"kv": 2, "group": 1, "qk": 4, "v": 4}
FFN: Sized = Layer("ffn", Mlp(act="gelu"), pre=NORM), {"hidden": 24}


def mixers(arch: Architecture) -> list[str]:
    """The kinds of the token mixers, in order."""
    return [p.layer.op.kind for p in arch.places if p.layer.op and p.layer.op.kind.startswith("mix.")]


class Stages(Construct):
    """Stages of falling resolution and growing width."""

    kind: ClassVar[str] = "topo.stages"
    said: ClassVar[str] = "Block.stage, an axis of width per stage, a strided operator between them"
    papers: ClassVar[tuple[int, ...]] = (
        20, 40, 43, 50, 69, 74, 79, 85, 87, 91, 103, 106, 118, 128, 134, 141, 180, 183, 192, 210, 216, 246, 252, 253,
        260, 261, 265,
    )  # fmt: skip

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        tokens = {flow.tokens for flow in place_flows(arch, entering(arch))}
        return len({block.stage for block in arch.blocks if block.stage}) > 1 and len(tokens) > 2

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        down = alone(GridConv(kernel=(2, 2), stride=(2, 2), padding=(0, 0), into="s1.width"))
        blocks = ([ATTENTION, FFN], [down], [ATTENTION, FFN])
        return (on_image(*blocks, width=8, sizes={"s1.width": 12}, stages=("s0", "", "s1")),)


class Hybrid(Construct):
    """Another mixer at each position: convolutions first, attention later."""

    kind: ClassVar[str] = "topo.hybrid"
    said: ClassVar[str] = "blocks with different operators in one stage"
    papers: ClassVar[tuple[int, ...]] = (44, 50, 77, 103, 118, 239, 246, 248, 252, 253, 254, 259, 263, 266)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return len(set(mixers(arch))) > 1

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        conv: Sized = Layer("mix", GridConv(depthwise=True), pre=NORM), {}
        return (on_image([conv, FFN], [ATTENTION, FFN]),)


class Parallel(Construct):
    """Branches side by side, summed onto the stream."""

    kind: ClassVar[str] = "topo.parallel"
    said: ClassVar[str] = "Layer.source = 'block'"
    papers: ClassVar[tuple[int, ...]] = (18, 31, 68, 84, 101, 134, 150, 245)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(place.layer.source == "block" for place in arch.places)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        beside: Sized = replace(FFN[0], source="block"), FFN[1]
        return (in_text([ATTENTION, beside], [ATTENTION, beside]),)


class Recursive(Construct):
    """One block called again."""

    kind: ClassVar[str] = "topo.recursive"
    said: ClassVar[str] = "Block.share"
    papers: ClassVar[tuple[int, ...]] = (10, 14, 61, 89, 112)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(block.share for block in arch.blocks)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        arch = in_text([ATTENTION, FFN])
        at = arch.index["b0"]
        again = Block("b0_again", arch.blocks[at].layers, share="b0", stage="s0")
        return (replace(arch, blocks=(*arch.blocks[: at + 1], again, *arch.blocks[at + 1 :])),)


class Macaron(Construct):
    """Several feed-forward layers around one mixer (macaron, sandwich)."""

    kind: ClassVar[str] = "topo.ffnorder"
    said: ClassVar[str] = "the order of a block's layers"
    papers: ClassVar[tuple[int, ...]] = (92, 207)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        kinds = [[layer.op.kind for layer in block.layers if layer.op] for block in arch.blocks]
        return any(sum(kind.startswith("ffn.") for kind in found) > 1 for found in kinds)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        before: Sized = replace(FFN[0], name="before"), {"hidden": 12}
        return (in_text([before, ATTENTION, FFN], [branch(Mlp(act="relu"), hidden=8)]),)


class EncoderDecoder(Construct):
    """An encoder on one input, a decoder on another that attends to it."""

    kind: ClassVar[str] = "topo.encdec"
    said: ClassVar[str] = "Architecture.inputs, Block.inputs and Layer.reads"
    papers: ClassVar[tuple[int, ...]] = (4, 45, 56, 135, 137, 224)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        came = roots(arch.blocks, arch.inputs)
        reads = ((came[p.block.name], came[name]) for p in arch.places for name in p.layer.reads if _mixes(p.layer))
        return any(own != other for own, other in reads)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        return CrossAttention.samples()


class NoMixing(Construct):
    """Blocks that mix no tokens, only channels."""

    kind: ClassVar[str] = "mix.identity"
    said: ClassVar[str] = "a block of feed-forward layers alone"
    papers: ClassVar[tuple[int, ...]] = (19, 192)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        return any(block.stage and not any(map(_mixes, block.layers)) for block in arch.blocks)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        return (in_text([FFN], [ATTENTION, FFN]),)


def _mixes(layer: Layer) -> bool:
    return layer.op is not None and layer.op.kind.startswith("mix.")
