"""Which submodels of a nested model a training step runs.

Sources: all granularities or one at random per step (MatFormer, Devvrit et al. 2023: its two code bases), the sandwich
rule (Yu & Huang 2019, slimmable networks), several architectures in one batch (ViT-ResNAS, Liao et al. 2021), and
every axis its own level (OFA, Cai et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from archtool.errors import UsageError
from archtool.ir.architecture import Architecture
from archtool.ir.nesting import Nesting, Submodel, uniform
from archtool.ir.table import alike

if TYPE_CHECKING:
    import torch

Rule = Literal["all", "random", "sandwich", "in-batch", "mixed"]


@dataclass(frozen=True)
class Sampling:
    """How submodels are drawn.

    Attributes:
        rule: ``all`` uniform granularities in every step, largest first; one of them at ``random``; ``sandwich``: the
            largest, the smallest and ``draws`` mixed ones, which learn the largest's outputs; ``in-batch``: ``draws``
            mixed ones, each on its own part of the batch; one ``mixed`` per step, every axis at its own level.
        draws: how many mixed ones ``sandwich`` and ``in-batch`` have.
        temperature: of what the others learn from the largest (``sandwich``).
    """

    rule: Rule = "all"
    draws: int = 2
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise UsageError(f"no sampling {self.rule!r}", f"use one of {', '.join(get_args(Rule))}")
        if self.draws < 1:
            raise UsageError(f"{self.draws} submodels are drawn", "give at least 1")
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}", "give a number above 0")


class Draw(NamedTuple):
    """One submodel; ``level`` is that of a uniform one."""

    submodel: Submodel
    level: int | None = None


def draws(nesting: Nesting, groups: Sequence[Sequence[str]], sampling: Sampling, rng: torch.Generator) -> list[Draw]:
    """The submodels of one step, in the order in which they run; ``groups``: axes that are drawn as one."""
    last = nesting.granularities - 1
    ends = [Draw(uniform(nesting, level), level) for level in dict.fromkeys((last, 0))]
    if sampling.rule == "all":
        return [Draw(uniform(nesting, level), level) for level in range(last, -1, -1)]
    if sampling.rule == "random":
        level = _below(last + 1, rng)
        return [Draw(uniform(nesting, level), level)]
    mixed = [Draw(mix(nesting, groups, rng)) for _ in range(1 if sampling.rule == "mixed" else sampling.draws)]
    return [*ends, *mixed] if sampling.rule == "sandwich" else mixed


def mix(nesting: Nesting, groups: Sequence[Sequence[str]], rng: torch.Generator) -> Submodel:
    """A submodel whose groups of axes have each its own level, and which skips any number of the blocks that may go."""
    counts = {}
    for group in groups:
        sizes = nesting.sizes[group[0]]
        counts.update(dict.fromkeys(group, sizes[_below(len(sizes), rng)]))
    skipped = _below(len(nesting.depth) + 1, rng) if nesting.depth else 0
    return Submodel(tuple((axis, counts[axis]) for axis in nesting.sizes), nesting.depth[:skipped])


def axis_groups(nesting: Nesting, arch: Architecture) -> list[tuple[str, ...]]:
    """The nested axes, those that a shared tensor ties together."""
    tied = alike(arch)
    return list(dict.fromkeys(tuple(tied.get(axis, (axis,))) for axis in nesting.sizes))


def _below(count: int, rng: torch.Generator) -> int:
    import torch

    return int(torch.randint(count, (), generator=rng))


def drawn(nesting: Nesting, draw: Draw, loss: float) -> dict[str, Any]:
    """One line of the journal: the level, or the level of each axis and the number of skipped blocks."""
    if draw.level is not None:
        return {"level": draw.level, "loss": loss}
    levels = [nesting.sizes[axis].index(count) for axis, count in draw.submodel.counts]
    return {"levels": levels, "skipped": len(draw.submodel.skipped), "loss": loss}


def fairness(nesting: Nesting, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What `drawn` lines come to: how often each size of each axis and each depth was drawn, and losses by level.

    Returns:
        ``drawn`` axis → size → times; ``skipped`` number of blocks → times; ``level_losses`` mean loss of each uniform
        level that was drawn; ``mixed_loss`` that of the others, where there are any.
    """
    counts = {axis: dict.fromkeys(sizes, 0) for axis, sizes in nesting.levels}
    skipped = dict.fromkeys(range(len(nesting.depth) + 1), 0)
    losses: dict[int | None, list[float]] = {}
    for line in lines:
        level = line.get("level")
        losses.setdefault(level, []).append(line["loss"])
        made = uniform(nesting, level) if level is not None else None
        skipped[line["skipped"] if made is None else len(made.skipped)] += 1
        chosen = made.counts if made else zip(nesting.sizes, line["levels"], strict=True)
        for axis, n in chosen:
            counts[axis][n if made else nesting.sizes[axis][n]] += 1
    means = {level: sum(found) / len(found) for level, found in losses.items()}
    mixed = {"mixed_loss": means.pop(None)} if None in means else {}
    named = {str(level): means[level] for level in sorted(level for level in means if level is not None)}
    return {
        "drawn": {axis: {str(n): k for n, k in times.items()} for axis, times in counts.items()},
        "skipped": {str(n): k for n, k in skipped.items()},
        "level_losses": named,
        **mixed,
    }
