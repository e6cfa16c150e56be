"""Topologies that are no chain: U-Nets and dual streams."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from archtool.constructs.base import Construct
from archtool.constructs.topologies import ATTENTION, FFN
from archtool.ir.architecture import Architecture, Block, Layer, entries, place_flows
from archtool.ir.feeds import entering
from archtool.operators.average import Average
from archtool.operators.cross_attention import CrossAttention
from archtool.operators.dense import Dense
from archtool.operators.down_conv import DownConv
from archtool.operators.join import Join
from archtool.operators.patch_stem import PatchStem
from archtool.operators.samples import NORM, alone, followed, on_image
from archtool.operators.up_shuffle import UpShuffle


class Unet(Construct):
    """A way down and a way up, with skips from one to the other."""

    kind: ClassVar[str] = "topo.unet"
    said: ClassVar[str] = "a block whose inputs are the stream on the way up and a block on the way down"
    papers: ClassVar[tuple[int, ...]] = (1, 8, 27, 31, 34, 41, 53, 67, 72, 109, 125, 158, 212, 236, 242, 264)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        tokens: dict[str, int] = {}
        for place, flow in zip(arch.places, place_flows(arch, entering(arch)), strict=True):
            tokens.setdefault(place.block.name, flow.tokens)
        names = list(tokens)
        joins = ((i, names.index(read)) for i, b in enumerate(arch.blocks) for read in b.inputs[1:] if read in tokens)
        return any(min(tokens[name] for name in names[skip : at + 1]) < tokens[names[at]] for at, skip in joins)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        down, up = alone(DownConv(into="s1.width")), alone(UpShuffle(into="up.width"))
        sizes, stages = {"s1.width": 12, "up.width": 6}, ("s0", "", "s1", "")
        arch = on_image([FFN], [down], [ATTENTION, FFN], [up], sizes=sizes, stages=stages)
        return (followed(followed(arch, Join(), ("b3", "b0"), name="skip"), Dense(into="s0.width")),)


class DualStream(Construct):
    """Two streams of their own that read each other (Chen et al. 2021, CrossViT: patches of two sizes)."""

    kind: ClassVar[str] = "topo.dual"
    said: ClassVar[str] = "Block.inputs for two chains, Layer.reads for what each takes of the other"
    papers: ClassVar[tuple[int, ...]] = (7, 13, 27, 104, 212, 240, 241)

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """See `Construct.found`."""
        stem: dict[str, str] = {}
        for block, names in entries(arch.blocks, arch.inputs):
            stem[block.name] = block.name if names[0] in arch.inputs else stem[names[0]]
        reads = ((b.name, read) for b in arch.blocks for layer in b.layers for read in layer.reads)
        crossed = {(stem[reader], stem[read]) for reader, read in reads if read in stem}
        return any(one != other and (other, one) in crossed for one, other in crossed)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Construct.samples`."""
        arch = on_image([ATTENTION, FFN], width=8, patch=4)
        patches = PatchStem(patch=(8, 8), tokens=(), positions=False, width="s1.width")
        look = Layer("look", CrossAttention(scale=0.5), pre=NORM)
        pool, score = arch.block("head").layers[0], Layer("score", Dense(into="classes"), residual=False)
        blocks = (
            arch.block("embed"),
            arch.block("b0"),
            Block("embed1", (Layer("patches", patches, residual=False),), inputs=("pixel_values",)),
            Block("c0", arch.block("b0").layers, stage="s1"),
            Block("b1", (replace(look, reads=("c0",)),), inputs=("b0",), stage="s0"),
            Block("c1", (replace(look, reads=("b0",)),), inputs=("c0",), stage="s1"),
            replace(arch.block("final"), inputs=("b1",)),
            Block("fine", (pool, score)),
            Block("coarse", (pool, score), inputs=("c1",)),
            Block("head", (Layer("mean", Average(), residual=False),), inputs=("fine", "coarse")),
        )
        sizes = {**arch.size, "s1.width": 12, "classes": 4}
        added = {"c0.mix": ATTENTION[1], "c0.ffn": FFN[1], "b1.look": ATTENTION[1], "c1.look": ATTENTION[1]}
        sizes |= {f"{name}.{axis}": n for name, local in added.items() for axis, n in local.items()}
        return (replace(arch, blocks=blocks, sizes=tuple((a, n) for a, n in sizes.items() if a != "head.score.units")),)
