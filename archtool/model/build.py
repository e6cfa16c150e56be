"""From an architecture to a plain `torch.nn.Module` (no weights needed), named as the axis table names them.

The module tree is block → layer → part, so that ``state_dict`` keys are the canonical tensor names. One module
serves every width: `torch.func.functional_call(module, views, kwargs=inputs)` runs a sub-network on views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from archtool.ir.architecture import Architecture, Layer, Place, entries
from archtool.ir.encodings import EncodingPlan
from archtool.ir.parts import Kind, Part
from archtool.ir.table import stored
from archtool.model.context import Context, Graph, State
from archtool.model.initial import initial
from archtool.model.primitives import primitive
from archtool.model.recompute import recomputed


class LayerModule(nn.Module):
    """The parts of one layer; a call runs it."""

    def __init__(self, place: Place, plan: EncodingPlan) -> None:
        super().__init__()
        for part in place.parts:
            self._add(place, part, plan)

    def _add(self, place: Place, part: Part, plan: EncodingPlan) -> None:
        specs = part.tensors()
        encodings = {
            s.name: plan.of(s.storage or ".".join(filter(None, (place.name, part.name, s.name)))) for s in specs
        }
        made = primitive(part, place.site.sizes, encodings)
        if isinstance(made, nn.Module):
            self.add_module(part.name, made)
        elif isinstance(made, nn.Parameter):
            self.register_parameter(part.name, made)
        else:
            self.register_buffer(part.name, made, persistent=specs[0].kind is Kind.BUFFER)

    def forward(self, layer: Layer, source: Any, x: Any, ctx: Context, beside: tuple[Any, ...] = ()) -> Tensor:
        """See `run_layer`."""
        return run_layer(self, layer, source, x, ctx, beside)


class Model(nn.Module):
    """A network built from an `Architecture`.

    ``model(**inputs)`` returns a dictionary of the architecture's outputs. Pass ``state={}`` to keep what
    generation needs between calls; it is updated in place. With ``recompute`` set, blocks are run again in the backward
    pass instead of keeping what they computed.
    """

    def __init__(self, architecture: Architecture, plan: EncodingPlan | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.plan = plan or EncodingPlan()
        self.recompute = False
        self.sites = {place.key: place.site for place in architecture.places}
        self._graph: Graph | None = None
        self._graphed = architecture
        for place in architecture.places:
            block = self._modules.setdefault(place.block.owner, nn.Module())
            assert block is not None
            if place.layer.name not in block._modules:
                block.add_module(place.layer.name, LayerModule(place, self.plan))
        self.tie()

    def tie(self) -> None:
        """Make tied parts share one tensor, and constants of one source (rotary setting) too."""
        shared: dict[object, Tensor] = {}
        for place in self.architecture.places:
            for part in place.parts:
                source = getattr(part, "source", None) or getattr(part, "rotary", None)
                if getattr(part, "tie", ""):
                    self._tie_part(f"{place.name}.{part.name}", part.tie)  # type: ignore[attr-defined]
                elif source:
                    module = self.get_submodule(place.name)
                    module._buffers[part.name] = shared.setdefault(source, getattr(module, part.name))

    def _tie_part(self, user: str, owner: str) -> None:
        (mine, my_names), (theirs, names) = self._tensors_of(user), self._tensors_of(owner)
        for name, other in zip(my_names, names, strict=True):
            table, its = (
                (mine._parameters, theirs._parameters)
                if other in theirs._parameters
                else (mine._buffers, theirs._buffers)
            )
            table[name] = its[other]  # type: ignore[assignment]

    def _tensors_of(self, part: str) -> tuple[nn.Module, list[str]]:
        """Who holds the tied tensors of a part, and their names: a weight with its leaves, or a free tensor."""
        place, _, leaf = part.rpartition(".")
        holder = self.get_submodule(place)
        if leaf not in holder._modules:
            return holder, [leaf]
        module = self.get_submodule(part)
        return module, ["weight"] if "weight" in module._parameters else list(module._buffers)

    def forward(self, *, state: State | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """Run the graph; see the class docstring."""
        arch = self.architecture
        if self._graph is None or self._graphed is not arch:
            self._graph = Graph(arch.blocks, arch.inputs, self.sites, [block for _, block in arch.outputs])
            self._graphed = arch
        ctx = Context(self._graph, inputs, state)
        run = partial(recomputed, self, run_block) if self.recompute else run_block
        left = walk(ctx, lambda block, layer: self.get_submodule(f"{block.owner}.{layer.name}"), run)
        if state is not None:
            state["length"] = ctx.past + inputs[arch.inputs[-1]].shape[1]
        return {name: left[block] for name, block in arch.outputs}


def walk(ctx: Context, module: Callable[[Any, Any], Any], run: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Run a graph's blocks in order; ``module`` gives what runs a layer. Returns what leaves the graph's outputs.

    ``run`` is how a block is run (None: `run_block`). What nothing reads any more is let go, so that its memory serves
    the blocks after it. With a state, blocks on another input than the one that generation steps along run only once.
    """
    graph = ctx.graph
    left: dict[str, Any] = {name: ctx.inputs.get(name) for name in graph.inputs}
    for block, names in entries(graph.blocks, graph.inputs):
        kept = None if ctx.state is None or graph.steps(block.name) else ctx.state.setdefault("kept", {})
        if kept is None or block.name not in kept:
            ctx.root = graph.roots[block.name]
            streams = tuple(left[name] for name in names)
            entering = streams[0] if len(streams) == 1 else streams
            left[block.name] = (run or run_block)(block, entering, left, ctx, module)
        if kept is not None:
            left[block.name] = kept.setdefault(block.name, left.get(block.name))
        streams = entering = ()
        for name in graph.done.get(block.name, ()):
            left.pop(name, None)
    return left


def run_block(block: Any, x: Any, left: Mapping[str, Any], ctx: Context, module: Callable[[Any, Any], Any]) -> Any:
    """The layers of one block, in order; ``x`` enters, ``left`` is what other blocks gave."""
    entered, starts = x, {layer.since: x for layer in block.layers}
    for layer in block.layers:
        ctx.place, ctx.reads = f"{block.name}.{layer.name}", layer.reads
        if layer.name in starts:
            starts[layer.name] = x
        source = entered if layer.source == "block" else x
        beside = tuple(left[name] for name in layer.reads)
        added = starts[layer.since] if layer.since else x
        x = module(block, layer)(layer, source, added, ctx, beside)
        entered = added if layer.since else source
    return x


def run_layer(m: Any, layer: Layer, source: Any, x: Any, ctx: Context, beside: tuple[Any, ...] = ()) -> Tensor:
    """One layer: norm, operator (with the streams of other blocks ``beside``), norm, gain, residual of ``x``, norm."""
    branch: Any = m.pre(source) if layer.pre else source
    if layer.op:
        branch = layer.op.forward(m, _with(branch, beside), ctx)
    if layer.branch:
        branch = m.branch(branch)
    if layer.scale:
        branch = branch * m.scale
    out = x + branch if layer.residual else branch
    return m.post(out) if layer.post else out


def _with(x: Any, beside: tuple[Any, ...]) -> Any:
    return (x, *beside) if beside else x


def build(architecture: Architecture, seed: int = 0, std: float = 0.02) -> Model:
    """A randomly initialised model: normal(0, ``std``) matrices, zero biases, unit gains."""
    model = Model(architecture)
    generator = torch.Generator().manual_seed(seed)
    values = {
        name: initial(spec.init, _shape_of(model, name), std, generator) for name, spec in stored(architecture).items()
    }
    return with_values(model, values.__getitem__)


def with_values(model: Model, value: Callable[[str], Tensor]) -> Model:
    """Fill a model on the meta device: ``value(storage name)`` gives each tensor."""
    names = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if b.is_meta}
    model.load_state_dict({name: value(name) for name in names}, strict=False, assign=True)
    model.tie()
    return model


def _shape_of(model: Model, name: str) -> torch.Size:
    return model.get_parameter(name).shape if name in dict(model.named_parameters()) else model.get_buffer(name).shape
