"""What an architecture costs under an encoding plan, before any weight exists.

MAC = one multiply-add. Shared blocks count parameters once and MACs at each call. Bytes are those of the stored
leaves (scales and zero points included), without file headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archtool.ir.architecture import Architecture, Place, place_flows
from archtool.ir.encodings import BITS, Dense, EncodingPlan
from archtool.ir.feeds import DEFAULT_LENGTH, entering
from archtool.ir.operator import Flow, linear_macs
from archtool.ir.parts import Kind
from archtool.ir.table import shape, stored


@dataclass(frozen=True)
class Cost:
    """Costs of one sample.

    Attributes:
        parameters: trained numbers, shared ones once.
        macs: multiply-adds of a forward pass.
        weight_bytes: stored bytes of all weights.
        activation_bytes: peak of activations alive at once, by layer (an estimate: kernels may need more).
        state_bytes: KV cache or recurrent state after the whole input.
    """

    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    state_bytes: int


def cost(
    arch: Architecture, plan: EncodingPlan | None = None, length: int = DEFAULT_LENGTH, *, dtype: str = "F32",
    activation_dtype: str = "F32",
) -> Cost:  # fmt: skip
    """All costs for one sample of ``length`` tokens; ``dtype`` is that of dense tensors that name none."""
    plan = plan or EncodingPlan()
    width = BITS[activation_dtype] // 8
    rows = list(layer_costs(arch, length))
    return Cost(
        parameters=parameters(arch),
        macs=sum(row.macs for row in rows),
        weight_bytes=weight_bytes(arch, plan, dtype),
        activation_bytes=width * max((row.alive for row in rows), default=0),
        state_bytes=width * sum(row.state for row in rows),
    )


@dataclass(frozen=True)
class LayerCost:
    """Costs of one call of one layer: MACs, elements alive at its peak, elements of state."""

    place: Place
    macs: int
    alive: int
    state: int


def layer_costs(arch: Architecture, length: int = DEFAULT_LENGTH) -> Iterator[LayerCost]:
    """Costs layer by layer, in execution order; ``length`` stands for every extent that is free."""
    flows = place_flows(arch, entering(arch, length))
    for place, flow, held in zip(arch.places, flows, _held(arch, flows), strict=True):
        op, site = place.layer.op, place.site
        widths = (d.size(arch.size) for d in site.inputs)
        streams = held + sum(width * each.tokens for width, each in zip(widths, (flow, *flow.beside), strict=False))
        if op is None:
            yield LayerCost(place, 0, 2 * streams, 0)
            continue
        leaving = place.leaving.size(arch.size) * op.out_flow(site, flow).tokens
        alive = streams + leaving + op.activation_elements(site, flow)
        macs = linear_macs(op, site, flow) + op.mixing_macs(site, flow)
        yield LayerCost(place, macs, alive, op.state_elements(site, flow))


def _held(arch: Architecture, flows: Sequence[Flow]) -> list[int]:
    """Elements that each place keeps alive for a residual that began before it."""
    held, index = [0] * len(flows), {place.key: i for i, place in enumerate(arch.places)}
    for end, place in enumerate(arch.places):
        if place.layer.since and place.added:
            start = index[f"{place.block.name}.{place.layer.since}"]
            for i in range(start + 1, end + 1):
                held[i] += place.added.size(arch.size) * flows[start].tokens
    return held


def parameters(arch: Architecture) -> int:
    """Trained numbers, each storage once."""
    return sum(math.prod(shape(s, arch)) for s in stored(arch).values() if s.kind is Kind.PARAMETER)


def weight_bytes(arch: Architecture, plan: EncodingPlan, dtype: str = "F32") -> int:
    """Stored bytes of all tensors."""
    total = 0
    for storage, spec in stored(arch).items():
        encoding = plan.of(storage)
        if isinstance(encoding, Dense) and not encoding.dtype:
            encoding = Dense(dtype)
        total += sum(leaf.nbytes for leaf in encoding.leaves(shape(spec, arch)))
    return total
