"""Scores of the units of a module's groups; what has least goes first.

- ``magnitude``: the sum of squares of all weights that go with the unit.
- ``taylor``: |mean over losses of dL/dm|, for a mask m = 1 on what the unit gives (Molchanov et al., 2019).
- ``fisher``: the mean over losses of (dL/dm)², the diagonal of the empirical Fisher matrix; one loss per sample makes
  it the per-sample one (Kwon et al., 2022).
- ``random``: for comparison.

dL/dm is the sum of weight × gradient over the weights that read the unit, which the chain rule makes exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError, UsageError
from archtool.transforms.modules.groups import Group
from archtool.transforms.modules.masks import entries

if TYPE_CHECKING:
    from torch import Tensor, nn

Losses = Callable[["nn.Module"], Iterable["Tensor"]]
CRITERIA = ("magnitude", "taylor", "fisher", "random")
Scores = dict[str, list[float]]


def scores(
    module: nn.Module, groups: Sequence[Group], criterion: str, losses: Losses | None = None, seed: int = 0
) -> Scores:
    """Group → score of each unit.

    Raises:
        UsageError: an unknown criterion, or one that needs losses without any.
    """
    import torch

    if criterion not in CRITERIA:
        raise UsageError(f"criterion {criterion!r} is not for modules", f"Use one of {', '.join(CRITERIA)}.")
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        return {g.name: torch.rand(len(g.units), generator=generator).tolist() for g in groups}
    if criterion == "magnitude":
        return {g.name: [_squares(module, g, i) for i in range(len(g.units))] for g in groups}
    if losses is None:
        raise UsageError(f"criterion {criterion} needs losses", "Give --loss FILE.py:FUNCTION, which yields them.")
    return _of_gradients(module, groups, losses, square=criterion == "fisher")


def _squares(module: nn.Module, group: Group, unit: int) -> float:
    import torch

    parts = [(t.detach(), d, cut.indices) for cut in group.units[unit] for t, d in entries(module, cut)]
    return sum(float(t.index_select(d, torch.tensor(i)).double().square().sum()) for t, d, i in parts)


def _of_gradients(module: nn.Module, groups: Sequence[Group], losses: Losses, square: bool) -> Scores:
    totals: dict[str, Any] = {}
    count = 0
    for count, loss in enumerate(checked(losses(module)), 1):  # noqa: B007
        module.zero_grad(set_to_none=True)
        loss.backward()
        for group in groups:
            slopes = _slopes(module, group)
            totals[group.name] = totals.get(group.name, 0.0) + (slopes.square() if square else slopes)
    module.zero_grad(set_to_none=True)
    if not count:
        raise InputError("the loss function yields nothing", "Yield one scalar loss per sample or batch.")
    return {name: (total / count).abs().tolist() for name, total in totals.items()}


def _slopes(module: nn.Module, group: Group) -> Tensor:
    """dL/dm of every unit: from what reads it; where nothing known does, from what makes it."""
    import torch

    made: dict[tuple[str, str, int], list[Tensor]] = {}
    found = []
    for unit in group.units:
        readers = [cut for cut in unit if cut.side == "in"] or [cut for cut in unit if cut.side != "in"]
        slope = torch.zeros((), dtype=torch.float64)
        for cut in readers:
            key = (cut.part, cut.side, cut.dim)
            if key not in made:
                made[key] = [_by_index(t, d) for t, d in entries(module, cut)]
            slope = slope + sum(column[list(cut.indices)].sum() for column in made[key])
        found.append(slope)
    return torch.stack(found)


def _by_index(tensor: Tensor, dim: int) -> Tensor:
    """The sum of weight × gradient at each index of a dimension."""
    import torch

    if tensor.grad is None:
        return torch.zeros(tensor.shape[dim], dtype=torch.float64)
    product = (tensor.detach() * tensor.grad).double().movedim(dim, 0)
    return product.reshape(product.shape[0], -1).sum(1)


def checked(losses: Any) -> Iterable[Tensor]:
    """The losses, each a finite scalar."""
    import torch

    if isinstance(losses, torch.Tensor):
        losses = [losses]
    for loss in losses:
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise InputError("the loss function yields something else than scalar tensors", "Yield losses, not lists.")
        if not math.isfinite(float(loss.detach())):
            raise InputError("the loss function yields a loss that is not finite", "Correct the data or the module.")
        yield loss


def mean_loss(module: nn.Module, losses: Losses) -> float:
    """The mean of all losses."""
    import torch

    with torch.no_grad():
        found = [float(loss) for loss in checked(losses(module))]
    if not found:
        raise InputError("the loss function yields nothing", "Yield one scalar loss per sample or batch.")
    return sum(found) / len(found)
