"""The architecture: a small DAG of blocks, as frozen, hashable data.

A block is a chain of *layers*; a layer is an operator with its norms and its residual. Pre-norm, post-norm,
sandwich norms, macaron blocks and parallel branches are all said with the same four fields:

    pre-norm      Layer(op, pre=norm)                    x + op(norm(x))
    post-norm     Layer(op, post=norm)                   norm(x + op(x))
    Gemma-2       Layer(op, pre=norm, branch=norm)       x + norm(op(norm(x)))
    parallel      second layer with source="block"       x + f(x) + g(x)
    one branch    first layer with residual=False,       x + g(norm(f(x)))
    of several    last Layer(g, pre=norm, since="f")

Stems and heads are blocks without a residual. Sizes live in one table, by axis name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from archtool.ir.axes import Dim
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Norm, Part, Role, Vector


@dataclass(frozen=True)
class NormSpec:
    """Which norm stands somewhere; its width comes from the place."""

    kind: str = "layer"
    eps: float = 1e-5
    offset: float = 0.0
    bias: bool = True
    gain: bool = True

    def part(self, name: str, width: Dim) -> Norm:
        """The norm as a part over ``width``."""
        return Norm(name, width, self.kind, self.eps, self.offset, self.bias, self.gain)


@dataclass(frozen=True)
class Layer:
    """An operator with its norms and residual.

    Attributes:
        name: local name (``"attn"``, ``"ffn"``).
        op: the operator, or None for a layer that only normalises.
        pre / branch / post: norms before the operator, on its output, and after the residual sum.
        residual: add the layer's input to its output.
        since: the layer of this block whose input the residual adds, where a branch has several layers: they are
            one residual layer, and dropped as one. ``""``: this layer's own input.
        scale: a learned gain per channel on the branch (LayerScale).
        source: ``"previous"`` layer, or ``"block"`` for a branch parallel to the one before: its operator
            reads what the previous layer read, and its output is added to what the previous layer gave.
        reads: names of blocks whose output enters the operator beside the layer's own stream.
    """

    name: str
    op: Operator | None = None
    pre: NormSpec | None = None
    branch: NormSpec | None = None
    post: NormSpec | None = None
    residual: bool = True
    scale: bool = False
    source: str = "previous"
    reads: tuple[str, ...] = ()
    since: str = ""

    def norms(self, entering: Dim, leaving: Dim) -> Iterator[Part]:
        """The norms and gains of this layer as parts."""
        if self.pre:
            yield self.pre.part("pre", entering)
        if self.branch:
            yield self.branch.part("branch", leaving)
        if self.scale:
            yield Vector("scale", (leaving,), (Role.ELEMENTWISE,), "ones")
        if self.post:
            yield self.post.part("post", leaving)


@dataclass(frozen=True)
class Block:
    """A named chain of layers.

    Attributes:
        name: unique name; prefix of its tensors and axes.
        layers: the chain.
        inputs: names of the blocks or graph inputs that feed it; empty: the block listed before.
        share: name of the block whose tensors and axes it uses again (a second call of one storage).
        stage: label of the group it belongs to; depth is edited inside a stage.
    """

    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...] = ()
    share: str = ""
    stage: str = ""

    @property
    def owner(self) -> str:
        """Name that prefixes this block's tensors and axes."""
        return self.share or self.name


@dataclass(frozen=True)
class Architecture:
    """A whole network as data.

    Attributes:
        family: the family that reads and writes it (``"llama"``), or ``""``.
        inputs: names of the graph's inputs (``"input_ids"``); the first block reads the first, other blocks name
            theirs. Generation steps along the last.
        blocks: in execution order.
        sizes: (axis, size) pairs.
        outputs: (output name, block name) pairs.
        facts: (name, value) pairs that no operator owns (maximum length, image size).
    """

    family: str
    inputs: tuple[str, ...]
    blocks: tuple[Block, ...]
    sizes: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str | int | float | bool], ...] = ()

    @cached_property
    def size(self) -> Mapping[str, int]:
        """Axis sizes by name."""
        return dict(self.sizes)

    @cached_property
    def fact(self) -> Mapping[str, str | int | float | bool]:
        """Facts by name."""
        return dict(self.facts)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Position of each block."""
        return {block.name: i for i, block in enumerate(self.blocks)}

    def block(self, name: str) -> Block:
        """The block of that name."""
        return self.blocks[self.index[name]]

    def stage(self, label: str) -> tuple[Block, ...]:
        """The blocks of a stage, in order."""
        return tuple(block for block in self.blocks if block.stage == label)

    @cached_property
    def stages(self) -> Mapping[str, tuple[Block, ...]]:
        """The blocks of every stage, by label in order of appearance."""
        return {label: self.stage(label) for label in dict.fromkeys(b.stage for b in self.blocks) if label}

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every layer with the streams that enter it, in execution order."""
        return tuple(_places(self))

    def resized(self, changes: Mapping[str, int]) -> Architecture:
        """This architecture with other sizes on some axes."""
        return replace(self, sizes=tuple((axis, changes.get(axis, n)) for axis, n in self.sizes))


@dataclass(frozen=True)
class Place:
    """One layer where it stands: its block, its site, the dimension that leaves it, and the one its residual adds."""

    block: Block
    layer: Layer
    site: Site
    leaving: Dim
    added: Dim | None = None

    @property
    def name(self) -> str:
        """Canonical prefix of the layer's tensors (the owner's name when shared)."""
        return self.site.name

    @property
    def key(self) -> str:
        """The layer's own name, also where its tensors are shared."""
        return f"{self.block.name}.{self.layer.name}"

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All parts of the layer: the operator's and the norms'."""
        own = self.layer.op.parts(self.site) if self.layer.op else ()
        entering = self.site.inputs[0] if self.site.inputs else self.leaving
        return (*own, *self.layer.norms(entering, self.leaving))


def _places(arch: Architecture) -> Iterator[Place]:
    leaving: dict[str, tuple[Dim, ...]] = dict.fromkeys(arch.inputs, ())
    for block, entering in entries(arch.blocks, arch.inputs):
        streams = tuple(d for name in entering for d in leaving[name])
        entered, starts = streams, {}
        for layer in block.layers:
            starts[layer.name] = streams
            source = entered if layer.source == "block" else streams
            added = starts.get(layer.since, ()) if layer.since else source
            beside = tuple(d for name in layer.reads for d in leaving[name])
            site = Site(f"{block.owner}.{layer.name}", (*source, *beside), arch.size)
            out = layer.op.out(site) if layer.op else source[0]
            yield Place(block, layer, site, out, added[0] if added and layer.residual else None)
            entered, streams = added if layer.since else source, (out,)
        leaving[block.name] = streams


def entries(blocks: Sequence[Block], inputs: Sequence[str]) -> Iterator[tuple[Block, tuple[str, ...]]]:
    """Every block with the names of what enters it."""
    previous = inputs[0]
    for block in blocks:
        yield block, tuple(block.inputs) or (previous,)
        previous = block.name


def roots(blocks: Sequence[Block], inputs: Sequence[str]) -> Mapping[str, str]:
    """The graph input that each block's (first) stream comes from; an input is its own."""
    found = {name: name for name in inputs}
    for block, entering in entries(blocks, inputs):
        found[block.name] = found[entering[0]]
    return found


def flows(
    blocks: Sequence[Block], inputs: Sequence[str], sites: Mapping[str, Site], fed: Mapping[str, Flow]
) -> Mapping[str, Flow]:
    """The flow that enters each layer (``"block.layer"``) when the graph is fed ``fed`` (by graph input)."""
    found: dict[str, Flow] = {}
    left = dict(fed)
    for block, entering in entries(blocks, inputs):
        current, *others = (left[name] for name in entering)
        for layer in block.layers:
            place = f"{block.name}.{layer.name}"
            found[place] = replace(current, beside=(*others, *(left[name] for name in layer.reads)))
            if layer.op and layer.source == "previous":
                current = replace(layer.op.out_flow(sites[place], found[place]), beside=())
            others = []
        left[block.name] = current
    return found


def place_flows(arch: Architecture, fed: Mapping[str, Flow]) -> tuple[Flow, ...]:
    """The flow that enters each place of ``arch.places``, in their order."""
    sites = {place.key: place.site for place in arch.places}
    return tuple(flows(arch.blocks, arch.inputs, sites, fed).values())
