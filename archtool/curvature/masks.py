"""Masks of ones on the units of a model, a row per sample, placed by the axis table for every operator alike.

A mask weighs what is *read* of a unit, once: what enters a linear layer or convolution that consumes its axis, its part
in the statistics of a norm, and in an output of the graph. An axis that nothing consumes is contracted between two
products of a layer (the query/key dimensions of a head): there the mask weighs the first of the two. A layer's mask
weighs its residual branch, a block's those of all its layers. At one the model is the parent, at zero the one without
the unit, so the gradient with respect to the mask is the derivative of the loss on the way to the unit's removal
(Michel et al. 2019; Molchanov et al. 2019; Kwon et al. 2022).

Legend: `B` samples, `U` units of an axis, `L` batch × sequences, `D` channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError
from archtool.ir.architecture import Architecture, Layer, Place
from archtool.ir.axes import Concat, Dim, Sizes, dim, owners
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Conv, Kind, Linear, Norm, Role
from archtool.ir.table import Claim, alike, axis_claims

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.model.build import Model

Masks = Mapping[str, "Tensor"]
"""Axis, block, or ``"block.layer"`` of a residual layer → (B, U) or (B, 1)."""


def ones(model: Model, names: Sequence[str], samples: int) -> dict[str, Tensor]:
    """Masks of ones that take gradients; axes that a shared tensor ties have one mask in common."""
    import torch

    like = next(model.parameters())
    groups = alike(model.architecture)
    made: dict[str, Tensor] = {}
    for name in names:
        first = next((other for other in groups.get(name, ()) if other in made), None)
        size = model.architecture.size.get(name, 1)
        made[name] = made[first] if first else torch.ones(samples, size, dtype=like.dtype, device=like.device)
    return {name: mask.requires_grad_() for name, mask in made.items()}


@contextmanager
def masked(model: Model, masks: Masks) -> Iterator[None]:
    """The model reads its units through the masks inside; afterwards it is as before.

    Raises:
        InputError: an axis that no layer reads or that a free tensor does (a spectral filter), or a name that is none.
    """
    layers = {name: mask for name, mask in masks.items() if name not in model.architecture.size}
    axes = {name: mask for name, mask in masks.items() if name not in layers}
    with ExitStack() as stack:
        for module, read in _reads(model, axes).items():
            stack.callback(read.on(module).remove)
        stack.callback(model.register_forward_hook(_outputs(model.architecture, axes)).remove)
        stack.enter_context(_weighed(model, layers))
        yield


@dataclass
class _Read:
    """What a module reads: dimensions with the masks that weigh them."""

    part: Any
    factors: list[tuple[Dim, str]] = field(default_factory=list)
    leaving: list[tuple[Dim, str]] = field(default_factory=list)
    masks: Masks = field(default_factory=dict)
    sizes: Sizes = field(default_factory=dict)

    def on(self, module: nn.Module) -> Any:
        """Hooks that weigh what enters (statistics, for a norm) and what leaves."""
        if isinstance(self.part, Norm):
            return module.register_forward_hook(self._normed)
        if self.leaving:
            return module.register_forward_hook(lambda _m, _args, out: self._weigh(out, self.leaving))
        return module.register_forward_pre_hook(lambda _m, args: (self._weigh(args[0], self.factors), *args[1:]))

    def _weigh(self, x: Tensor, factors: Sequence[tuple[Dim, str]]) -> Tensor:
        for dimension, axis in factors:
            x = x * _spread(self.masks[axis], dimension, self.sizes, axis, x, 1 if isinstance(self.part, Conv) else -1)
        return x

    def _normed(self, module: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        weights: Tensor | None = None
        for dimension, axis in self.factors:
            w = _spread(self.masks[axis], dimension, self.sizes, axis, args[0], -1)
            weights = w if weights is None else weights * w
        if weights is not None and module.kind != "batch":
            out = weighted_norm(module, args[0], weights)
        return self._weigh(out, self.leaving)


def _spread(mask_BU: Tensor, dimension: Dim, sizes: Sizes, axis: str, x: Tensor, channel: int) -> Tensor:
    """The mask along the channels of ``x``, whose leading dimension is samples × sequences."""
    import torch

    index = torch.tensor(owners(dimension, sizes, axis), device=x.device)
    whole_BD = torch.where(index >= 0, mask_BU[:, index.clamp_min(0)], 1.0)
    if len(x) % len(mask_BU):
        raise InputError(f"{axis} is read by a layer without samples of its own", "Leave this kind of unit out.")
    rows_LD = whole_BD.repeat_interleave(len(x) // len(mask_BU), dim=0)
    return rows_LD.reshape(len(x), *(rows_LD.shape[1] if i == channel % x.dim() else 1 for i in range(1, x.dim())))


def weighted_norm(norm: Any, x: Tensor, weights: Tensor) -> Tensor:
    """A norm whose statistics count each channel by its weight; (L, ..., D) → the same. BatchNorm's are per channel."""
    import torch

    if norm.kind == "grn":
        energy = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        mean = (energy * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        return norm.bias + x * (1 + norm.weight * energy / (mean + norm.eps))  # type: ignore[no-any-return]
    over = tuple(range(1, x.dim())) if norm.kind == "group" else (-1,)
    total = weights.expand(x.shape).sum(over, keepdim=True)
    centred = x if norm.kind == "rms" else x - (x * weights).sum(over, keepdim=True) / total
    variance = (centred.square() * weights).sum(over, keepdim=True) / total
    normed = centred * torch.rsqrt(variance + norm.eps)
    gained = normed if norm.weight is None else normed * (norm.weight + norm.offset)
    return gained if norm.bias is None else gained + norm.bias


def _reads(model: Model, masks: Masks) -> dict[nn.Module, _Read]:
    """Module → what it reads of the masked axes."""
    found: dict[nn.Module, _Read] = {}
    for axis in masks:
        users = [c for c in axis_claims(model.architecture, axis) if c.spec.kind is not Kind.DERIVED or _is_norm(c)]
        if not users:
            raise InputError(f"there is no axis {axis!r} to put a mask on", "`archtool inspect MODEL` shows the axes.")
        contracted = not any(_consumes(claim, axis) for claim in users)
        for claim in _contractions(users) if contracted else users:
            _add(found, model, claim, axis, masks, contracted)
        for claim in users if contracted else ():
            if _is_norm(claim):
                _add(found, model, claim, axis, masks, False)
    return found


def _add(found: dict[Any, _Read], model: Model, claim: Claim, axis: str, masks: Masks, leaving: bool) -> None:
    part = _part(claim)
    if (leaving or _consumes(claim, axis)) and not isinstance(part, Linear | Conv | Norm):
        what = f"{axis} is held by {claim.name}, a free tensor, so that no mask weighs it for each sample"
        raise InputError(what, "Choose other units, or protect that layer.")
    if not (leaving or isinstance(part, Norm) or _consumes(claim, axis)):
        return
    module = model.get_submodule(f"{claim.place.name}.{claim.part}")
    read = found.setdefault(module, _Read(part, masks=masks, sizes=model.architecture.size))
    for dimension, role in zip(claim.spec.dims, claim.spec.roles, strict=True):
        passing = isinstance(part, Norm) or (leaving and isinstance(part, Conv) and part.depthwise)
        wanted = Role.ELEMENTWISE if passing else Role.PRODUCES if leaving else Role.CONSUMES
        entry = (_once(dimension, axis, read.sizes) if leaving else dimension, axis)
        into = read.leaving if leaving else read.factors
        if role is wanted and axis in dimension.axes() and entry not in into:
            into.append(entry)


def _contractions(users: Sequence[Claim]) -> list[Claim]:
    """Where the mask of an axis that nothing consumes stands in a layer: its norm, depthwise kernel or producer."""
    layers: dict[str, list[Claim]] = {}
    for claim in users:
        layers.setdefault(claim.place.name, []).append(claim)
    found = []
    for of in layers.values():
        norms, makers = [c for c in of if _is_norm(c)], [c for c in of if Role.PRODUCES in c.spec.roles]
        passing = [c for c in of if isinstance(_part(c), Conv)]
        found += (norms or passing or makers)[:1]
    return found


def _consumes(claim: Claim, axis: str) -> bool:
    roles = zip(claim.spec.dims, claim.spec.roles, strict=True)
    return any(role is Role.CONSUMES and axis in dimension.axes() for dimension, role in roles)


def _part(claim: Claim) -> Any:
    return next(part for part in claim.place.parts if part.name == claim.part)


def _is_norm(claim: Claim) -> bool:
    return isinstance(_part(claim), Norm)


def _once(dimension: Dim, axis: str, sizes: Sizes) -> Dim:
    """The dimension with only the first of several concatenated parts on the axis."""

    def first(factor: Any) -> Any:
        if not isinstance(factor, Concat):
            return factor
        parts, seen = [], False
        for part in factor.parts:
            on = axis in part.axes()
            parts.append(dim(part.size(sizes)) if on and seen else part)
            seen |= on
        return Concat(tuple(parts))

    return Dim(tuple(map(first, dimension.factors)))


def _outputs(arch: Architecture, masks: Masks) -> Any:
    """A hook that weighs the graph's outputs."""
    leaving = {place.block.name: place.leaving for place in arch.places}
    images = {p.block.name for p in arch.places if p.layer.op and p.layer.op.kind == "head.image"}

    def weigh(_module: Any, _args: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        found = dict(outputs)
        for name, block in arch.outputs:
            for axis in masks:
                if axis in leaving[block].axes():
                    x, channel = found[name], 1 if block in images else -1
                    found[name] = x * _spread(masks[axis], leaving[block], arch.size, axis, x, channel)
        return found

    return weigh


@contextmanager
def _weighed(model: Model, masks: Masks) -> Iterator[None]:
    """The residual branches of layers, weighed inside."""
    arch = model.architecture
    found = {place.key: place for place in arch.places if place.layer.residual and place.layer.op}
    blocks_of = {place.block.name for place in found.values()}
    for name in masks:
        if name not in found and name not in blocks_of:
            what = f"{name} is neither an axis nor a block or layer with a residual"
            raise InputError(what, "`archtool inspect MODEL` shows them.")

    def of(block: str, layer: Layer) -> Layer:
        key = f"{block}.{layer.name}"
        weights = [masks[name] for name in (block, key) if name in masks and key in found]
        return _weighed_layer(layer, weights[0] if len(weights) == 1 else weights[0] * weights[1]) if weights else layer

    blocks = tuple(replace(b, layers=tuple(of(b.name, layer) for layer in b.layers)) for b in arch.blocks)
    model.architecture = replace(arch, blocks=blocks)
    try:
        yield
    finally:
        model.architecture = arch


def _weighed_layer(layer: Layer, mask_B1: Tensor) -> Layer:
    assert layer.op is not None
    return replace(layer, op=_Weighed(op=layer.op, layer=layer, mask=mask_B1), branch=None, scale=False)


@dataclass(frozen=True, kw_only=True)
class _Weighed(Operator):
    """A layer's branch (operator, norm and gain) times a number per sample."""

    op: Operator
    layer: Layer
    mask: Any = field(compare=False)

    def out(self, site: Site) -> Dim:
        """That of the operator."""
        return self.op.out(site)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """That of the operator."""
        return self.op.out_flow(site, flow)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """See `archtool.model.build.run_layer`."""
        branch: Any = self.op.forward(m, x, ctx)
        branch = m.branch(branch) if self.layer.branch else branch
        branch = branch * m.scale if self.layer.scale else branch
        rows_L = self.mask[:, 0].repeat_interleave(len(branch) // len(self.mask))
        return branch * rows_L.reshape(-1, *(1,) * (branch.dim() - 1))  # type: ignore[no-any-return]


def layer_names(arch: Architecture) -> tuple[str, ...]:
    """Names of the residual layers with an operator, which a mask may weigh."""
    return tuple(place.key for place in _residual(arch))


def _residual(arch: Architecture) -> list[Place]:
    return [place for place in arch.places if place.layer.residual and place.layer.op]
