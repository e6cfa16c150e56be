"""Checks on an architecture before anything is built; every error names the offending block."""

from __future__ import annotations

from collections import Counter

from archtool.errors import InputError
from archtool.ir.architecture import Architecture, Block
from archtool.ir.table import axes, claims, shape


def validate(arch: Architecture) -> None:
    """Raise `InputError` if the graph or its sizes are not consistent."""
    _check_names(arch)
    for i, block in enumerate(arch.blocks):
        _check_block(arch, block, i)
    _check_sizes(arch)
    _check_streams(arch)
    _check_shared(arch)
    for output, source in arch.outputs:
        if source not in arch.index:
            raise InputError(
                f"output {output!r} names block {source!r}, which does not exist", "Name an existing block."
            )


def _check_names(arch: Architecture) -> None:
    repeated = [name for name, n in Counter(b.name for b in arch.blocks).items() if n > 1]
    if repeated:
        raise InputError(f"block {repeated[0]!r} exists twice", "Give each block its own name.")
    if not arch.blocks or not arch.inputs:
        raise InputError("the architecture has no blocks or no inputs", "It needs at least one of each.")


def _check_block(arch: Architecture, block: Block, i: int) -> None:
    for name in (*block.inputs, *(read for layer in block.layers for read in layer.reads)):
        if name not in arch.inputs and arch.index.get(name, i) >= i:
            raise InputError(
                f"block {block.name!r} reads {name!r}, which is not a block before it", "Reorder the blocks."
            )
    if block.share and (block.share not in arch.index or arch.block(block.share).share):
        raise InputError(f"block {block.name!r} shares {block.share!r}, which owns no tensors", "Name the owner.")
    names = [layer.name for layer in block.layers]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"block {block.name!r}: layers must be there and have distinct names", "Rename the layers.")
    for at, layer in enumerate(block.layers):
        if layer.since and (layer.since not in names[:at] or not layer.residual):
            raise InputError(
                f"block {block.name!r}: the residual of layer {layer.name!r} begins at {layer.since!r}",
                "It begins at a layer before it, and is a residual.",
            )


def _check_sizes(arch: Architecture) -> None:
    try:
        needed = axes(arch)
    except KeyError as missing:
        raise InputError(f"axis {missing} has no size", "Give it a size.") from None
    for axis in needed:
        if axis not in arch.size:
            raise InputError(f"axis {axis!r} of block {axis.split('.')[0]!r} has no size", "Give it a size.")
        if arch.size[axis] < 1:
            raise InputError(f"axis {axis!r} has size {arch.size[axis]}", "Sizes are positive; drop the layer instead.")


def _check_shared(arch: Architecture) -> None:
    owners = {claim.name: claim for claim in claims(arch)}
    for claim in owners.values():
        owner = owners.get(claim.spec.storage)
        if owner is None:
            raise InputError(
                f"block {claim.place.block.name!r}: {claim.name} uses {claim.spec.storage!r}, which no block has",
                "Tie it to an existing tensor.",
            )
        if shape(owner.spec, arch) != shape(claim.spec, arch):
            raise InputError(
                f"block {claim.place.block.name!r}: {claim.name} has shape {shape(claim.spec, arch)}, "
                f"the tensor {owner.name} that it uses has {shape(owner.spec, arch)}",
                "Tensors that share a storage have one shape.",
            )


def _check_streams(arch: Architecture) -> None:
    for place in arch.places:
        if place.layer.residual and place.added != place.leaving:
            came = str(place.added) if place.added else "nothing"
            raise InputError(
                f"block {place.block.name!r}, layer {place.layer.name!r}: residual adds ({place.leaving}) to ({came})",
                "A residual needs the same stream on both sides.",
            )
