"""Groups of channels that can be removed exactly: each is tried, and kept only where slice and mask agree.

A unit is one output channel of the group's first part, or a head where a part around it says ``num_heads``. The trial
runs on perturbed weights, so that a part that is zero after training hides nothing. What does not agree (statistics of
a LayerNorm, a cached width, an output, tied weights) stays whole, with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archtool.transforms.modules.graph import Cut, Graph, merged
from archtool.transforms.modules.masks import NoMask, masked
from archtool.transforms.modules.slices import Untied, sliced
from archtool.transforms.units import is_protected

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-5
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
NOISE = 0.1


@dataclass(frozen=True)
class Group:
    """Units that can be removed.

    Attributes:
        name: its first part.
        kind: channels or heads.
        units: the cuts that remove each unit.
        around: for heads, the part that counts them, its attribute, and attributes that hold all heads' width.
    """

    name: str
    kind: str
    units: tuple[tuple[Cut, ...], ...]
    around: str = ""
    counts: str = ""
    widths: Mapping[str, int] = field(default_factory=dict)

    def cuts(self, removed: Sequence[int]) -> list[Cut]:
        """All cuts of some units."""
        return [cut for i in removed for cut in self.units[i]]

    def attributes(self, removed: Sequence[int]) -> dict[str, dict[str, int]]:
        """What the part that counts the heads says afterwards."""
        if not self.counts or not removed:
            return {}
        all_, left = len(self.units), len(self.units) - len(removed)
        return {self.around: {self.counts: left, **{k: v // all_ * left for k, v in self.widths.items()}}}


def removal(graph: Graph, groups: Sequence[Group], removed: Mapping[str, Sequence[int]]) -> tuple[Any, dict[str, Any]]:
    """Cuts and attributes of some units of each group."""
    cuts = merged([cut for group in groups for cut in group.cuts(removed.get(group.name, ()))])
    found: dict[str, Any] = {}
    for group in groups:
        for part, values in group.attributes(removed.get(group.name, ())).items():
            found.setdefault(part, {}).update(values)
    return cuts, found


def exact_groups(
    graph: Graph, inputs: Mapping[str, Tensor], protect: Sequence[str], seed: int = 0
) -> tuple[list[Group], list[tuple[str, str]]]:
    """The groups that can be removed exactly, and why the others cannot."""
    found, left = list[Group](), list[tuple[str, str]]()
    trial = perturbed(graph.module, seed)
    for root, channels in graph.roots():
        whole = graph.cuts(root, range(channels))
        guarded = [cut.part for cut in whole if is_protected(cut.part, protect)]
        if guarded:
            left.append((root, f"stays: {guarded[0]} is protected"))
            continue
        reasons = list[str]()
        for group in _candidates(graph, root, channels, whole):
            reason = disagreement(graph, trial, [group], {group.name: [len(group.units) // 2]}, inputs)
            if not reason:
                found.append(group)
                break
            reasons.append(reason)
        else:
            left.append((root, f"stays whole: {reasons[-1] if reasons else 'it has one channel'}"))
    return found, left


def _candidates(graph: Graph, root: str, channels: int, whole: Sequence[Cut]) -> Iterator[Group]:
    """Heads first, where a part around the root counts them; single channels only where nothing does."""
    if channels < 2:
        return
    heads = list(_heads(graph, root, channels, whole))
    yield from heads
    if not heads:
        yield Group(root, "channels", tuple(graph.cuts(root, [i]) for i in range(channels)))


def _heads(graph: Graph, root: str, channels: int, whole: Sequence[Cut]) -> Iterator[Group]:
    around, counts = _counting(graph, root)
    part = graph.module.get_submodule(around)
    count = int(getattr(part, counts)) if counts else 0
    if count < 2 or any(around and not cut.part.startswith(f"{around}.") for cut in whole):
        return
    for fused in (1, 3):
        inner = channels // fused
        if channels % fused or inner % count or not inner:
            continue
        units = [tuple(_head(graph, cut, inner, count, i) for cut in whole) for i in range(count)]
        widths = {k: v for k, v in vars(part).items() if type(v) is int and v == inner and k != counts}
        yield Group(root, "heads", tuple(units), around, counts, widths)


def _counting(graph: Graph, root: str) -> tuple[str, str]:
    """The nearest part around a root that counts heads, and its attribute; empty where none does."""
    words = root.split(".")[:-1]
    for n in range(len(words), -1, -1):
        part = graph.module.get_submodule(".".join(words[:n]))
        counts = next((name for name in HEADS if type(getattr(part, name, None)) is int), "")
        if counts:
            return ".".join(words[:n]), counts
    return "", ""


def _head(graph: Graph, cut: Cut, inner: int, count: int, head: int) -> Cut:
    """The rows or columns of one head, in each of the projections that a part fuses."""
    part = graph.module.get_submodule(cut.part)
    pruner = graph.slicer(part)
    size = pruner.get_in_channels(part) if cut.side == "in" else pruner.get_out_channels(part)
    width = inner // count
    starts = range(head * width, size, inner)
    return Cut(cut.part, cut.side, tuple(start + i for start in starts for i in range(width)))


def perturbed(module: nn.Module, seed: int) -> nn.Module:
    """A copy with noise on every parameter and on running statistics."""
    import torch

    made, generator = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.is_floating_point():
                weight.add_(NOISE * torch.randn(weight.shape, generator=generator).to(weight))
        for name, value in made.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.add_(NOISE * torch.rand(value.shape, generator=generator).to(value))
    return made


def disagreement(
    graph: Graph, module: nn.Module, groups: Sequence[Group], removed: Mapping[str, Sequence[int]],
    inputs: Mapping[str, Tensor],
) -> str:  # fmt: skip
    """Why a removal is not exact; empty where the sliced module equals the masked one."""
    import torch

    from archtool.model.foreign import called

    cuts, attributes = removal(graph, groups, removed)
    try:
        small, whole = sliced(module, graph, cuts, attributes), masked(module, cuts)
    except (NoMask, Untied) as known:
        return str(known)
    except Exception as error:
        return f"torch-pruning cannot cut it ({type(error).__name__}: {error})"
    try:
        with torch.no_grad():
            got, expected = called(small)(**inputs), called(whole)(**inputs)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return f"it does not run afterwards ({type(error).__name__}: {first[:90]})"
    return _difference(expected, got)


def _difference(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    for name, value in expected.items():
        if name not in got or got[name].shape != value.shape:
            return "the output would have another shape"
        gap, top = float((got[name] - value).abs().max()), float(value.abs().max())
        if not gap <= TOLERANCE * max(1.0, top):
            return f"it would compute something else than the module with zeros there (differs by {gap:.2g})"
    return ""
