"""From an architecture to a plain `torch.nn.Module` (no weights needed), named as the axis table names them.

The module tree is block → layer → part, so that ``state_dict`` keys are the canonical tensor names. One module
serves every width: `torch.func.functional_call(module, views, kwargs=inputs)` runs a sub-network on views.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from archtool.ir.architecture import Architecture, Block, Layer, Place, flows
from archtool.ir.encodings import EncodingPlan
from archtool.ir.operator import Flow
from archtool.ir.parts import Kind, Part
from archtool.ir.table import stored
from archtool.model.context import Context, State
from archtool.model.primitives import primitive


class LayerModule(nn.Module):
    """The parts of one layer."""

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


class Model(nn.Module):
    """A network built from an `Architecture`.

    ``model(**inputs)`` returns a dictionary of the architecture's outputs. Pass ``state={}`` to keep what
    generation needs between calls; it is updated in place.
    """

    def __init__(self, architecture: Architecture, plan: EncodingPlan | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.plan = plan or EncodingPlan()
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
        ctx = Context(inputs, state, lambda: _flows(self.architecture, inputs[self.architecture.inputs[0]]))
        left: dict[str, Any] = {}
        current: Any = inputs[self.architecture.inputs[0]]
        for block in self.architecture.blocks:
            current = _entering(block, left, current)
            current = left[block.name] = self._run(block, current, ctx)
        if state is not None:
            state["length"] = ctx.past + inputs[self.architecture.inputs[0]].shape[1]
        return {name: left[block] for name, block in self.architecture.outputs}

    def _run(self, block: Block, x: Any, ctx: Context) -> Tensor:
        entered = x
        for layer in block.layers:
            ctx.place = f"{block.name}.{layer.name}"
            module = self.get_submodule(f"{block.owner}.{layer.name}")
            source = entered if layer.source == "block" else x
            x, entered = run_layer(module, layer, source, x, ctx), source
        return x


def _flows(arch: Architecture, first: Tensor) -> dict[str, Flow]:
    """What enters each layer when the graph is fed ``first``: an image (B, C, H, W) or a sequence (B, T, ...)."""
    grid = (first.shape[2], first.shape[3]) if first.dim() == 4 else None
    entering = Flow(grid[0] * grid[1], grid) if grid else Flow(first.shape[1])
    names = (f"{place.block.name}.{place.layer.name}" for place in arch.places)
    return dict(zip(names, flows(arch, entering), strict=True))


def _entering(block: Block, left: dict[str, Any], previous: Any) -> Any:
    if not block.inputs:
        return previous
    streams = tuple(left[name] for name in block.inputs)
    return streams[0] if len(streams) == 1 else streams


def run_layer(m: Any, layer: Layer, source: Any, x: Any, ctx: Context) -> Tensor:
    """One layer: norm, operator, norm, gain, residual, norm."""
    branch = m.pre(source) if layer.pre else source
    if layer.op:
        branch = layer.op.forward(m, branch, ctx)
    if layer.branch:
        branch = m.branch(branch)
    if layer.scale:
        branch = branch * m.scale
    out = x + branch if layer.residual else branch
    return m.post(out) if layer.post else out


def build(architecture: Architecture, seed: int = 0, std: float = 0.02) -> Model:
    """A randomly initialised model: normal(0, ``std``) matrices, zero biases, unit gains."""
    model = Model(architecture)
    generator = torch.Generator().manual_seed(seed)
    values = {
        name: _initial(spec.init, _shape_of(model, name), std, generator) for name, spec in stored(architecture).items()
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


def _initial(kind: str, shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    if kind == "normal":
        return torch.empty(shape).normal_(0.0, std, generator=generator)
    return torch.zeros(shape) if kind == "zeros" else torch.ones(shape)
