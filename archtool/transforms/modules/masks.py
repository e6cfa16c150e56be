"""A removal as zeros in the whole module, written without the slicer: what a sliced module must equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from archtool.transforms.modules.graph import Cut, conv1d_types

if TYPE_CHECKING:
    from torch import Tensor, nn


class NoMask(Exception):
    """The kind of part has no mask here; the message names it."""


def masked(module: nn.Module, cuts: Sequence[Cut]) -> nn.Module:
    """A copy whose removed channels are zero on every side.

    Raises:
        NoMask: a part of a kind that is not known here.
    """
    import torch

    made = copy.deepcopy(module)
    with torch.no_grad():
        for cut in cuts:
            for tensor, dim in entries(made, cut):
                tensor.index_fill_(dim, torch.tensor(cut.indices), 0.0)
    return made


def entries(module: nn.Module, cut: Cut) -> Iterator[tuple[Tensor, int]]:
    """Every tensor that has a cut's indices, with the dimension."""
    owner, _, leaf = cut.part.rpartition(".")
    if cut.side == "dim":
        yield getattr(module.get_submodule(owner), leaf), cut.dim
        return
    part = module.get_submodule(cut.part)
    known = next((rule for kinds, rule in _rules() if isinstance(part, kinds)), None)
    if known is None:
        raise NoMask(f"{type(part).__name__} is of a kind that is not pruned here")
    for name, dim in known(part, cut.side):
        tensor = getattr(part, name, None)
        if tensor is not None:
            yield tensor, dim


Rule = Callable[[Any, str], list[tuple[str, int]]]


def _rules() -> list[tuple[Any, Rule]]:
    """Kinds of parts → the tensors and dimensions of a side."""
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd
    from torch.nn.modules.instancenorm import _InstanceNorm

    norms = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
    return [
        (conv1d_types(), lambda p, side: [("weight", 0)] if side == "in" else [("weight", 1), ("bias", 0)]),
        (nn.Linear, _matrix),
        (_ConvNd, _convolution),
        (norms, lambda p, side: [("weight", -1), ("bias", -1)]),
        (nn.Embedding, lambda p, side: [("weight", 1)]),
        (nn.PReLU, lambda p, side: []),
    ]


def _matrix(part: Any, side: str) -> list[tuple[str, int]]:
    return [("weight", 1)] if side == "in" else [("weight", 0), ("bias", 0)]


def _convolution(part: Any, side: str) -> list[tuple[str, int]]:
    first, second = (1, 0) if part.transposed else (0, 1)
    return [("weight", second)] if side == "in" else [("weight", first), ("bias", 0)]
