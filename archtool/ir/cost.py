"""What an architecture costs under an encoding plan, before any weight exists.

MAC = one multiply-add. Shared blocks count parameters once and MACs at each call. Bytes are those of the stored
leaves (scales and zero points included), without file headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from archtool.ir.architecture import Architecture, Place, flows
from archtool.ir.encodings import BITS, Dense, EncodingPlan
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


def default_flow(arch: Architecture, length: int = 64) -> Flow:
    """What enters the graph: ``length`` tokens, or an image of the size that the architecture states."""
    if "image_height" not in arch.fact:
        return Flow(length)
    rows, columns = int(arch.fact["image_height"]), int(arch.fact["image_width"])
    return Flow(rows * columns, (rows, columns))


def cost(
    arch: Architecture, plan: EncodingPlan | None = None, flow: Flow | None = None, *, dtype: str = "F32",
    activation_dtype: str = "F32",
) -> Cost:  # fmt: skip
    """All costs for one sample of shape ``flow``; ``dtype`` is that of dense tensors that name none."""
    plan, flow = plan or EncodingPlan(), flow or default_flow(arch)
    width = BITS[activation_dtype] // 8
    rows = list(layer_costs(arch, flow))
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


def layer_costs(arch: Architecture, flow: Flow) -> Iterator[LayerCost]:
    """Costs layer by layer, in execution order."""
    for place, entering in zip(arch.places, flows(arch, flow), strict=True):
        op, site = place.layer.op, place.site
        streams = sum(d.size(arch.size) for d in site.inputs) * entering.tokens
        if op is None:
            yield LayerCost(place, 0, 2 * streams, 0)
            continue
        leaving = place.leaving.size(arch.size) * op.out_flow(site, entering).tokens
        alive = streams + leaving + op.activation_elements(site, entering)
        macs = linear_macs(op, site, entering) + op.mixing_macs(site, entering)
        yield LayerCost(place, macs, alive, op.state_elements(site, entering))


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
