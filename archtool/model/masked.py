"""The masked parent: the oracle of every structural edit, written without the code that slices.

The full-size weights are multiplied by 0/1 masks where a selected axis is produced and where it is consumed (a
query head whose query is zero still mixes values), and norm statistics are taken over the kept channels
(BatchNorm's are per channel and stay). A sliced model must equal it (design: 1e-5 relative in float32; bit for
bit in float64 on integer-valued weights). A dropped layer is a branch multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from archtool.ir.architecture import Layer
from archtool.ir.axes import Concat, Dim, Selection, Sizes
from archtool.ir.edit import Drop, Edit, Select
from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Role
from archtool.ir.table import claims
from archtool.model.build import Model
from archtool.model.primitives import Norm


def masked_parent(model: Model, edit: Edit) -> Model:
    """Mask ``model`` in place so that it computes what the edited model computes, where entries are kept."""
    chosen = {d.selection.axis: d.selection for d in edit.decisions if isinstance(d, Select)}
    _mask_tensors(model, chosen)
    _mask_norms(model, chosen)
    for decision in edit.decisions:
        if isinstance(decision, Drop):
            _silence(model, decision)
    return model


def mask_of(dimension: Dim, sizes: Sizes, chosen: Mapping[str, Selection]) -> Tensor:
    """1 for kept and 0 for removed entries of a dimension: the outer product of its factors' masks."""
    return torch.tensor([float(all(e)) for e in _entries(dimension, sizes, chosen, {})])


def _entries(
    dimension: Dim, sizes: Sizes, chosen: Mapping[str, Selection], outer: dict[str, int]
) -> Iterator[tuple[bool, ...]]:
    """For every flat index, in order: whether each of its factors' indices is kept."""
    if not dimension.factors:
        yield ()
        return
    head, rest = dimension.factors[0], Dim(dimension.factors[1:])
    if isinstance(head, Concat):
        for part in head.parts:
            for here in _entries(part, sizes, chosen, outer):
                yield from ((*here, *tail) for tail in _entries(rest, sizes, chosen, outer))
        return
    for i in range(head if isinstance(head, int) else sizes[head]):
        inside = {**outer, head: i} if isinstance(head, str) else outer
        kept = isinstance(head, int) or head not in chosen or i in chosen[head].at(outer)
        yield from ((kept, *tail) for tail in _entries(rest, sizes, chosen, inside))


def _mask_tensors(model: Model, chosen: Mapping[str, Selection]) -> None:
    done, parameters = set(), dict(model.named_parameters())
    for claim in claims(model.architecture):
        if claim.spec.storage in done or claim.name not in parameters:
            continue
        done.add(claim.spec.storage)
        tensor = parameters[claim.name]
        for i, (dimension, role) in enumerate(zip(claim.spec.dims, claim.spec.roles, strict=True)):
            if role in (Role.PRODUCES, Role.CONSUMES) and any(axis in chosen for axis in dimension.axes()):
                mask = mask_of(dimension, model.architecture.size, chosen).to(tensor)
                tensor.data.mul_(mask.reshape((-1, *(1,) * (tensor.dim() - 1 - i))))


def _mask_norms(model: Model, chosen: Mapping[str, Selection]) -> None:
    for claim in claims(model.architecture):
        path = f"{claim.place.name}.{claim.part}"
        module = model.get_submodule(path.rsplit(".", 1)[0])._modules.get(claim.part)
        if not isinstance(module, Norm) or module.kind == "batch":
            continue
        if any(axis in chosen for axis in claim.spec.dims[0].axes()):
            mask = mask_of(claim.spec.dims[0], model.architecture.size, chosen)
            _replace(model, path, MaskedNorm(module, mask))


class MaskedNorm(nn.Module):
    """A norm whose statistics are over the kept channels (and all tokens: GroupNorm, GRN); others leave as zero."""

    def __init__(self, norm: Norm, mask_D: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("mask", mask_D, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        mask_D: Tensor = self.get_buffer("mask").to(x.dtype)
        if self.norm.kind == "grn":
            return self._response(x * mask_D, mask_D) * mask_D
        over = (1, 2) if self.norm.kind == "group" else (-1,)
        kept = mask_D.expand(x.shape).sum(over, keepdim=True)
        mean = (x * mask_D).sum(over, keepdim=True) / kept if self.norm.kind != "rms" else 0.0
        centred = (x - mean) * mask_D
        normed = centred * torch.rsqrt(centred.pow(2).sum(over, keepdim=True) / kept + self.norm.eps)
        out = normed if self.norm.weight is None else normed * (self.norm.weight + self.norm.offset)
        return (out if self.norm.bias is None else out + self.norm.bias) * mask_D

    def _response(self, x_BTD: Tensor, mask_D: Tensor) -> Tensor:
        norms = x_BTD.square().sum(1, keepdim=True).sqrt()
        relative = norms / (norms.sum(-1, keepdim=True) / mask_D.sum() + self.norm.eps)
        assert self.norm.weight is not None and self.norm.bias is not None
        return x_BTD + self.norm.weight * (x_BTD * relative) + self.norm.bias


def _silence(model: Model, decision: Drop) -> None:
    """Multiply what the dropped layers add to the stream by zero; the norms after the sums go with a whole block."""

    def silenced(layer: Layer) -> Layer:
        layer = layer if decision.layer else replace(layer, post=None)
        dropped = layer.residual and decision.layer in ("", layer.name)
        return replace(layer, op=Silent(op=layer.op), branch=None, scale=False) if dropped and layer.op else layer

    arch = model.architecture
    blocks = (replace(b, layers=tuple(map(silenced, b.layers))) if b.name == decision.block else b for b in arch.blocks)
    model.architecture = replace(arch, blocks=tuple(blocks))


@dataclass(frozen=True, kw_only=True)
class Silent(Operator):
    """An operator whose output is multiplied by zero."""

    op: Operator

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """That of the operator."""
        return self.op.out_flow(site, flow)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """Zeros of the operator's output."""
        return self.op.forward(m, x, ctx) * 0.0


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
