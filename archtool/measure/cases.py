"""archtool's operators as cases of the latency table: layers in a row, frames, grids over widths.

Copies of a layer are one `Model` of a generated architecture, so that they run exactly as in a whole model:
one mask and one table of rotary angles for all of them, residuals and norms fused as the runtime fuses them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import Architecture, Block, Layer
from archtool.ir.axes import Dim, dim
from archtool.ir.cost import parameters
from archtool.ir.operator import Feed, Operator, Site
from archtool.ir.parts import Part
from archtool.measure.inputs import example_inputs
from archtool.measure.layers import WIDTH, BodyLayer, frame_signature, frame_sizes, require_body, split
from archtool.measure.slope import FIRST_COPIES
from archtool.measure.table import LatencyTable, ModelCase, OpCase

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_AXES = ("kv", "hidden", "inner")
"""Axes that a grid varies unless told otherwise: attention heads, feed-forward and other inner widths."""


MOST_FIRST_COPIES = 8
"""Export takes time for every copy."""


@dataclass(frozen=True, kw_only=True)
class Given(Operator):
    """A stream that is an input of the graph; it stands in front of layers that are measured alone.

    Attributes:
        width: axis name of the stream.
    """

    kind: ClassVar[str] = "stem.given"

    width: str

    def parts(self, site: Site) -> tuple[Part, ...]:
        """No tensors."""
        return ()

    def out(self, site: Site) -> Dim:
        """The stream width."""
        return dim(self.width)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """A stream of that width."""
        return {name: Feed(("length", site.sizes[self.width]))}

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """The input ``hidden`` (B, T, D)."""
        return x


@dataclass(frozen=True)
class Grid:
    """Sizes at which layers are measured.

    Attributes:
        axes: local axes (and `WIDTH`) that vary; the others keep the sizes that the architecture has.
        points: sizes per axis, evenly from ``low`` times the largest to the largest.
        low: the smallest share of an axis.
    """

    axes: tuple[str, ...] = DEFAULT_AXES
    points: int = 4
    low: float = 0.25

    def sizes(self, axis: str, present: Sequence[int]) -> list[int]:
        """The sizes of one axis, which has the sizes ``present`` in the architecture."""
        if axis not in self.axes:
            return sorted(set(present))
        top, steps = max(present), max(1, self.points - 1)
        spread = {max(1, round(top * (self.low + (1 - self.low) * i / steps))) for i in range(steps + 1)}
        return sorted(spread | {min(present)} if min(present) < min(spread) else spread)


@dataclass(frozen=True)
class Workload:
    """What is fed: samples, tokens per sample (images have their own size), seed of the random numbers."""

    batch: int = 1
    length: int = 64
    seed: int = 0


def layer_stack(layer: BodyLayer, sizes: Mapping[str, int], inputs: tuple[str, ...], copies: int) -> Architecture:
    """``copies`` of a layer at the given sizes, one after another, behind an input ``hidden``."""
    name, own = layer.place.layer.name, dict(sizes)
    table = {layer.stream: own.pop(WIDTH)} | {axis: own.pop(axis) for axis, _ in layer.shared}
    blocks = [Block("given", (Layer("stream", Given(width=layer.stream), residual=False),))]
    for i in range(copies):
        blocks.append(Block(f"b{i}", (layer.place.layer,)))
        table |= {f"b{i}.{name}.{axis}": size for axis, size in own.items()}
    outputs = (("stream", blocks[-1].name),)
    return Architecture("", ("hidden", *inputs), tuple(blocks), tuple(table.items()), outputs)


def layer_case(arch: Architecture, layer: BodyLayer, sizes: Mapping[str, int], work: Workload) -> OpCase:
    """A layer of ``arch`` at other sizes."""
    width = sizes[WIDTH]

    def inputs() -> dict[str, Tensor]:
        import torch

        generator = torch.Generator().manual_seed(work.seed)
        hidden_BTD = torch.randn((work.batch * layer.sequences, layer.tokens, width), generator=generator)
        return {"hidden": hidden_BTD} | _extra(arch, layer, work)

    def copies(count: int) -> nn.Module:
        from archtool.model.build import build

        return build(layer_stack(layer, sizes, tuple(_extra(arch, layer, work)), count), work.seed).eval()

    dynamic = _layer_dynamic(arch, _extra(arch, layer, work))
    first = _footprint_copies(arch, layer, sizes, work)
    return OpCase(layer.signature, sizes, lambda: copies(1), inputs, dynamic, copies, first)


def _footprint_copies(arch: Architecture, layer: BodyLayer, sizes: Mapping[str, int], work: Workload) -> int:
    """How many copies weigh as much as the model's whole body, on average of the slope's two graphs.

    Weights that stay in the cache between calls are faster than those of a model too large for it.
    """
    body = parameters(arch) - parameters(split(arch, work.length).frame)
    alike = 2 * body / (3 * max(1, parameters(layer_stack(layer, sizes, (), 1))))
    return min(MOST_FIRST_COPIES, max(FIRST_COPIES, round(alike)))


def _extra(arch: Architecture, layer: BodyLayer, work: Workload) -> dict[str, Tensor]:
    """The graph's inputs that layers read: ids for positions, and the mask."""
    if arch.inputs[0] != "input_ids" or layer.tokens != work.length:
        return {}
    return example_inputs(arch, work.batch, work.length, work.seed)


def _layer_dynamic(arch: Architecture, extra: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Batch varies; length too where the whole model's does."""
    axes = {0: "batch", 1: "length"} if "input_ids" in arch.inputs else {0: "batch"}
    return {name: dict(axes) for name in ("hidden", *extra)}


def frame_case(frame: Architecture, work: Workload) -> OpCase:
    """The frame as one whole call."""

    def module() -> nn.Module:
        from archtool.model.build import build

        return build(frame, work.seed).eval()

    def inputs() -> dict[str, Tensor]:
        return example_inputs(frame, work.batch, work.length, work.seed)

    return OpCase(frame_signature(frame), frame_sizes(frame), module, inputs, whole=True)


def model_cases(arch: Architecture, work: Workload) -> list[OpCase]:
    """The frame, and each distinct layer at the sizes that it has."""
    return grid_cases(arch, Grid(axes=()), work)


def grid_cases(arch: Architecture, grid: Grid, work: Workload) -> list[OpCase]:
    """Everything that the table needs to predict ``arch`` and its sub-shapes inside the grid."""
    parts = split(arch, work.length)
    require_body(parts)
    frames = (parts.frame.resized(sizes) for sizes in _frame_sizes(parts.frame, parts.body, grid))
    cases = [frame_case(frame, work) for frame in frames]
    by_signature: dict[str, list[BodyLayer]] = {}
    for layer in parts.body:
        by_signature.setdefault(layer.signature, []).append(layer)
    for layers in by_signature.values():
        cases += [layer_case(arch, layers[0], sizes, work) for sizes in _layer_sizes(layers, grid)]
    return cases


def _layer_sizes(layers: Sequence[BodyLayer], grid: Grid) -> Iterator[dict[str, int]]:
    """The points for all layers of one signature."""
    axes = [axis for axis, _ in layers[0].sizes]
    present = {axis: [dict(layer.sizes)[axis] for layer in layers] for axis in axes}
    return _product({axis: grid.sizes(axis, sizes) for axis, sizes in present.items()})


def _frame_sizes(frame: Architecture, body: Sequence[BodyLayer], grid: Grid) -> Iterator[dict[str, int]]:
    """The points for the frame: only streams vary."""
    streams = sorted({layer.stream for layer in body})
    return _product({axis: grid.sizes(WIDTH, [frame.size[axis]]) for axis in streams})


def _product(values: Mapping[str, Sequence[int]]) -> Iterator[dict[str, int]]:
    for point in itertools.product(*values.values()):
        yield dict(zip(values, point, strict=True))


def predict_latency(arch: Architecture, table: LatencyTable) -> float:
    """The latency of a whole model in ms, from the table at its batch, length and threads.

    Raises:
        InputError: a layer lies outside the measured sizes.
    """
    return table.predict_model(split(arch, table.scope.length).ops)


def model_case(name: str, arch: Architecture, work: Workload) -> ModelCase:
    """A whole model with random weights, to check predictions with."""
    from archtool.model.build import build

    inputs = example_inputs(arch, work.batch, work.length, work.seed)
    return ModelCase(name, lambda: build(arch, work.seed).eval(), inputs, split(arch, work.length).ops)
