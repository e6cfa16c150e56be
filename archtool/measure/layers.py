"""An architecture as what the latency table is made of: its body layers and the frame around them (no torch).

A *body layer* stands in a block that could be dropped: it leaves the stream that enters, so it can be measured
alone, many copies in a row. Everything else (stems, final norms, heads) is the *frame*: one small model,
measured as a whole with the runtime's overhead, because its parts are too cheap and too tied to stand alone.

A *signature* names all settings that decide which kernels run; sizes are axis → size, under names that do not
depend on where the layer stands. Numbers such as a norm's epsilon change no kernel and are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archtool.errors import InputError
from archtool.ir.architecture import Architecture, Layer, Place, place_flows
from archtool.ir.edit import Drop, RefusedEdit, drop
from archtool.ir.feeds import entering
from archtool.ir.operator import Flow

WIDTH = "width"
"""The name of the stream's axis in the sizes of a layer."""

_LONG = 4


@dataclass(frozen=True)
class BodyLayer:
    """One call of a layer that can be measured alone.

    Attributes:
        signature: see the module.
        sizes: (axis, size) pairs: the layer's own axes by local name, the stream as `WIDTH`.
        place: where it stands.
        tokens: tokens of one sequence that enters.
        shared: axes of the architecture that it reads besides its own, with their sizes.
        sequences: how many sequences a sample is cut into there.
    """

    signature: str
    sizes: tuple[tuple[str, int], ...]
    place: Place
    tokens: int
    shared: tuple[tuple[str, int], ...]
    sequences: int = 1

    @property
    def stream(self) -> str:
        """The axis of the stream."""
        return str(self.place.site.stream.factors[0])


@dataclass(frozen=True)
class Split:
    """An architecture's body layers, once per call, and its frame."""

    body: tuple[BodyLayer, ...]
    frame: Architecture

    @property
    def ops(self) -> list[tuple[str, Mapping[str, int]]]:
        """Signatures and sizes, as `LatencyTable.predict_model` takes them."""
        frame = (frame_signature(self.frame), frame_sizes(self.frame))
        return [frame, *((layer.signature, dict(layer.sizes)) for layer in self.body)]


def split(arch: Architecture, length: int) -> Split:
    """Body layers and frame of an architecture that reads ``length`` tokens (or images of its size)."""
    by_block: dict[str, list[tuple[Place, Flow]]] = {}
    for place, flow in zip(arch.places, place_flows(arch, entering(arch, length)), strict=True):
        by_block.setdefault(place.block.name, []).append((place, flow))
    body: list[BodyLayer] = []
    frame = arch
    for name, places in reversed(by_block.items()):
        if not all(_stands_alone(place) for place, _ in places):
            continue
        try:
            frame = drop(frame, Drop(name))
        except RefusedEdit:
            continue
        body[:0] = [_body_layer(place, flow) for place, flow in places]
    return Split(tuple(body), frame)


def _stands_alone(place: Place) -> bool:
    """One stream in, the same stream out, on one axis, with a branch and tensors of its own, no need of a grid."""
    stream = place.site.inputs[0].factors if place.site.inputs else ()
    single = len(place.site.inputs) == 1 and len(stream) == 1 and isinstance(stream[0], str)
    tied = any(getattr(part, "tie", "") for part in place.parts)
    plain = not (place.layer.op and place.layer.op.on_grid)
    whole = not tied and not place.layer.since
    return bool(place.block.stage) and single and plain and place.leaving == place.site.stream and whole


def _body_layer(place: Place, flow: Flow) -> BodyLayer:
    stream = place.site.stream
    axes = {axis for part in place.parts for spec in part.tensors() for d in spec.dims for axis in d.axes()}
    others = axes - set(stream.axes())
    local = {axis.removeprefix(f"{place.name}."): place.site.sizes[axis] for axis in others}
    shared = tuple(sorted((a, place.site.sizes[a]) for a in others if not a.startswith(f"{place.name}.")))
    sizes = {**local, WIDTH: stream.size(place.site.sizes)}
    signature = layer_signature(place.layer, flow)
    return BodyLayer(signature, tuple(sorted(sizes.items())), place, flow.length, shared, flow.sequences)


def layer_signature(layer: Layer, flow: Flow) -> str:
    """All settings of a layer that decide its kernels."""
    many = f" sequences={flow.sequences}" if flow.sequences > 1 else ""
    return f"{_describe(dataclasses.replace(layer, name='layer'))} tokens={flow.length}{many}"


def frame_signature(frame: Architecture) -> str:
    """All settings of a frame, its inputs and outputs."""
    named = ((f"{p.name}<{','.join(p.block.inputs)}>", p.layer) for p in frame.places)
    layers = "; ".join(_describe(dataclasses.replace(layer, name=name)) for name, layer in named)
    outputs = ", ".join(f"{name}={block}" for name, block in frame.outputs)
    images = [f"{frame.fact[key]}" for key in ("image_height", "image_width") if key in frame.fact]
    return f"frame({', '.join((*frame.inputs, *images))} -> {outputs}): {layers}"


def frame_sizes(frame: Architecture) -> dict[str, int]:
    """Sizes of all axes that the frame's tensors carry."""
    specs = (spec for place in frame.places for part in place.parts for spec in part.tensors())
    axes = {axis for spec in specs for d in spec.dims for axis in d.axes()}
    return {axis: frame.size[axis] for axis in sorted(axes)}


def _describe(value: Any) -> str:
    """Words and integers as they are; of other numbers only whether they are 0 or 1; long tuples by length."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = getattr(type(value), "kind", "")
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        inner = " ".join(f"{key}={_describe(item)}" for key, item in fields)
        return f"{name if isinstance(name, str) and name else type(value).__name__}({inner})"
    if isinstance(value, tuple):
        return f"<{len(value)}>" if len(value) > _LONG else f"({','.join(map(_describe, value))})"
    if isinstance(value, float):
        return str(value) if value in (0.0, 1.0) else "x"
    return str(value)


def require_body(split: Split) -> None:
    """Raise `InputError` where no layer can be measured alone."""
    if not split.body:
        raise InputError("no layer of this architecture can be measured alone", "Measure the whole model instead.")
