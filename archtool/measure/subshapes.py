"""Random sub-shapes of an architecture, inside a grid: what the latency table is checked with."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from archtool.ir.architecture import Architecture
from archtool.ir.edit import Drop, drop
from archtool.measure.cases import Grid
from archtool.measure.layers import WIDTH, BodyLayer, split

_MULTIPLE = 8
"""Large axes take multiples of this, as people choose them."""


def random_subshapes(arch: Architecture, grid: Grid, length: int, count: int, seed: int = 0) -> list[Architecture]:
    """``count`` architectures with fewer blocks and smaller axes, every layer of each inside ``grid``.

    Blocks are left out at random (at least half stay); each layer takes its own sizes on the grid's axes, and
    the stream one for all where `WIDTH` varies.
    """
    generator = random.Random(seed)
    return [_subshape(arch, grid, length, generator) for _ in range(count)]


def calibration_shapes(arch: Architecture, grid: Grid, length: int, seed: int = 0) -> list[Architecture]:
    """The architecture and two sub-shapes, drawn from another stream than `random_subshapes` with this seed."""
    generator = random.Random(f"calibration {seed}")
    return [arch, *(_subshape(arch, grid, length, generator) for _ in range(2))]


def _subshape(arch: Architecture, grid: Grid, length: int, generator: random.Random) -> Architecture:
    body = split(arch, length).body
    bounds = _bounds(body, grid)
    changes: dict[str, int] = {}
    for layer in body:
        for axis, size in layer.sizes:
            name = layer.stream if axis == WIDTH else f"{layer.place.name}.{axis}"
            if axis in grid.axes and name in arch.size and name not in changes:
                changes[name] = _draw(bounds[layer.signature, axis], size, generator)
    return _thinned(arch.resized(changes), body, generator)


def _bounds(body: Sequence[BodyLayer], grid: Grid) -> Mapping[tuple[str, str], int]:
    """The smallest measured size of each axis of each signature."""
    present: dict[tuple[str, str], list[int]] = {}
    for layer in body:
        for axis, size in layer.sizes:
            present.setdefault((layer.signature, axis), []).append(size)
    return {key: min(grid.sizes(key[1], sizes)) for key, sizes in present.items()}


def _draw(low: int, high: int, generator: random.Random) -> int:
    step = _MULTIPLE if high >= 8 * _MULTIPLE else 1
    drawn = generator.randint(low, high)
    return min(high, max(low, round(drawn / step) * step))


def _thinned(arch: Architecture, body: Sequence[BodyLayer], generator: random.Random) -> Architecture:
    """Without some of the body's blocks that own what they use alone."""
    owners = {block.share for block in arch.blocks}
    names = list(dict.fromkeys(layer.place.block.name for layer in body))
    free = [name for name in names if name not in owners]
    gone = generator.randint(0, min(len(free), len(names) // 2))
    for name in generator.sample(free, gone):
        arch = drop(arch, Drop(name))
    return arch
