"""What an architecture is fed: the shape of every graph input, as its operators state it."""

from __future__ import annotations

from collections.abc import Mapping

from archtool.errors import InputError
from archtool.ir.architecture import Architecture, place_flows, roots
from archtool.ir.operator import Feed, Flow, feed_flow

LENGTH = "length"
DEFAULT_LENGTH = 64


def feeds(arch: Architecture) -> Mapping[str, Feed]:
    """Input name → what one sample of it holds: the graph's inputs, then optional ones (segment ids)."""
    came = roots(arch.blocks, arch.inputs)
    found: dict[str, Feed] = {}
    for place in arch.places:
        if place.layer.op:
            found = {**place.layer.op.feeds(place.site, came[place.block.name]), **found}
    return {name: found[name] for name in sorted(found, key=lambda n: (n not in arch.inputs, _order(arch, n)))}


def sample_shape(arch: Architecture, feed: Feed, length: int = DEFAULT_LENGTH) -> tuple[int, ...]:
    """The shape of one sample; an extent that the architecture does not state is ``length``."""
    return tuple(n if isinstance(n, int) else int(arch.fact.get(n, length)) for n in feed.shape)


def entering(arch: Architecture, length: int = DEFAULT_LENGTH) -> Mapping[str, Flow]:
    """The flow at every graph input: ``length`` tokens, or what the architecture states (an image's size)."""
    found = feeds(arch)
    missing = [name for name in arch.inputs if name not in found]
    if missing:
        raise InputError(f"no operator says what the input {missing[0]!r} holds", "Give its stem a feeds method.")
    return {name: feed_flow(sample_shape(arch, found[name], length)) for name in arch.inputs}


def leaving(arch: Architecture, output: str, length: int = DEFAULT_LENGTH) -> Flow:
    """The flow of an output of the graph."""
    block = dict(arch.outputs)[output]
    along = zip(arch.places, place_flows(arch, entering(arch, length)), strict=True)
    place, flow = [(place, flow) for place, flow in along if place.block.name == block][-1]
    return place.layer.op.out_flow(place.site, flow) if place.layer.op else flow


def is_free(arch: Architecture, feed: Feed) -> bool:
    """Whether samples may have any length."""
    return any(isinstance(n, str) and n not in arch.fact for n in feed.shape)


def _order(arch: Architecture, name: str) -> int:
    return arch.inputs.index(name) if name in arch.inputs else 0
