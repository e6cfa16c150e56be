"""A removal carried out: torch-pruning's own slicing of each part, attributes that follow, and tied names kept tied."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archtool.model.foreign import tied
from archtool.model.load_pruned import share
from archtool.transforms.modules.graph import Cut, Graph

if TYPE_CHECKING:
    from torch import nn

Attributes = Mapping[str, Mapping[str, int]]
"""Part → attribute → new value."""


class Untied(Exception):
    """Names of one tensor would be cut differently; the message names them."""


def sliced(module: nn.Module, graph: Graph, cuts: Sequence[Cut], attributes: Attributes) -> nn.Module:
    """A smaller copy.

    Raises:
        Untied: see there; besides, whatever torch-pruning raises.
    """
    made = copy.deepcopy(module)
    groups = tied(made)
    for cut in cuts:
        _slice(made, graph, cut)
    for part, values in attributes.items():
        for name, value in values.items():
            setattr(made.get_submodule(part), name, value)
    for names in groups:
        _retie(made, names)
    return made.requires_grad_(True)


def _slice(made: nn.Module, graph: Graph, cut: Cut) -> None:
    owner, _, leaf = cut.part.rpartition(".")
    if cut.side == "dim":
        parameter = made.get_parameter(cut.part)
        pruner = graph.slicer(parameter)
        pruner.pruning_dim = cut.dim
        setattr(made.get_submodule(owner), leaf, pruner.prune_out_channels(parameter, list(cut.indices)))
        return
    part = made.get_submodule(cut.part)
    pruner = graph.slicer(part)
    (pruner.prune_in_channels if cut.side == "in" else pruner.prune_out_channels)(part, list(cut.indices))


def _retie(made: nn.Module, names: Sequence[str]) -> None:
    import torch

    first, *others = names
    for other in others:
        if not torch.equal(made.get_parameter(first), made.get_parameter(other)):
            raise Untied(f"{first} and {other} are one tensor and would be cut differently")
        share(made, first, other)


def changed_attributes(before: nn.Module, after: nn.Module) -> dict[str, dict[str, Any]]:
    """Plain attributes (numbers, tuples of numbers) of parts that differ, by part."""
    parts, found = dict(after.named_modules()), dict[str, dict[str, Any]]()
    for name, old in before.named_modules():
        now = vars(parts[name])
        values = {k: now[k] for k, v in vars(old).items() if _plain(v) and k in now and now[k] != v}
        if values:
            found[name] = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return found


def _plain(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
