"""Levels of a nested model from scores: at each share of the parameters, every axis keeps what is worth most.

From the largest level down, each is allocated exactly within the one above it (`archtool.transforms.allocate`), so
that smaller submodels are part of larger ones. Axes must be in order of importance
(`archtool.transforms.extract.order`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from archtool.budget.language import Budget, Limit
from archtool.ir.architecture import Architecture
from archtool.ir.edit import Edit, edited
from archtool.ir.encodings import EncodingPlan
from archtool.ir.nesting import Nesting, Submodel
from archtool.ir.parts import Kind
from archtool.ir.table import claims, shape
from archtool.transforms.allocate import allocate
from archtool.transforms.widths import Costs, counts


def fraction_levels(
    nesting: Nesting, arch: Architecture, fractions: Sequence[float], multiple: int = 1
) -> tuple[Submodel, ...]:
    """The submodel of each fraction: every axis, and the blocks that may go, cut to it."""
    least, found = fractions[0], []
    for fraction in fractions:
        kept = counts(arch, list(nesting.sizes), fraction, multiple)
        gone = round(len(nesting.depth) * (1 - fraction) / (1 - least)) if least < 1 else 0
        found.append(Submodel(tuple(kept.items()), nesting.depth[:gone]))
    return tuple(found)


def allocated_levels(
    nesting: Nesting, uniform: Sequence[Submodel], arch: Architecture, scores: Mapping[str, Sequence[float]],
    fractions: Sequence[float], multiple: int = 1,
) -> tuple[Nesting, tuple[Submodel, ...]]:  # fmt: skip
    """The nesting with sizes allocated by score, and its levels: at most these shares of the block parameters.

    Args:
        nesting: what is nested.
        uniform: its levels; axes without scores keep their sizes there, and blocks go as they say.
        scores: axis → what removing each unit costs, best first.
        fractions: ascending, the last 1.
        multiple: sizes are multiples of this where an axis is larger.

    Raises:
        BudgetError: a level that no widths reach.
    """
    whole, levels = block_parameters(arch), list(uniform)
    kept = {axis: arch.size[axis] for axis in scores}
    for i in range(len(fractions) - 2, -1, -1):
        above, rest = Submodel(tuple(kept.items())), _others(levels[i], scores)
        current = edited(arch, EncodingPlan(), above.edit(arch, "nest"))[0]
        rows = {axis: tuple(scores[axis][:n]) for axis, n in kept.items()}
        budget = Budget((Limit("params", fractions[i] * whole),))
        edit = allocate(current, rows, budget, _costs(current, rest), "nest", multiple)
        chosen = edited(current, EncodingPlan(), edit)[0]
        kept = {axis: chosen.size[axis] for axis in scores}
        both = {**dict(levels[i].counts), **kept}
        levels[i] = replace(levels[i], counts=tuple((axis, both[axis]) for axis in nesting.sizes))
    return _with_sizes(nesting, levels), tuple(levels)


def block_parameters(arch: Architecture) -> int:
    """Parameters of the blocks that belong to a stage, each shared tensor once."""
    found = {
        c.spec.storage: shape(c.spec, arch)
        for c in claims(arch) if c.place.block.stage and c.spec.kind is Kind.PARAMETER
    }  # fmt: skip
    return sum(map(math.prod, found.values()))


def _others(level: Submodel, scores: Mapping[str, Sequence[float]]) -> Submodel:
    """What a level cuts besides the axes that are allocated."""
    return replace(level, counts=tuple((axis, n) for axis, n in level.counts if axis not in scores))


def _costs(arch: Architecture, rest: Submodel) -> Costs:
    """Block parameters of an edit of ``arch`` that is also cut as ``rest`` says."""
    beside = rest.edit(arch, "nest").decisions

    def costs(edit: Edit) -> dict[str, float]:
        both = replace(edit, decisions=(*edit.decisions, *beside))
        return {"parameters": float(block_parameters(edited(arch, EncodingPlan(), both)[0]))}

    return costs


def _with_sizes(nesting: Nesting, levels: Sequence[Submodel]) -> Nesting:
    """The nesting whose sizes are those of the levels."""
    tables = [dict(level.counts) for level in levels]
    return replace(
        nesting, levels=tuple((axis, tuple(sorted({table[axis] for table in tables}))) for axis in nesting.sizes)
    )
