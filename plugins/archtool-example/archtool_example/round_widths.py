"""``round-widths``: narrow every ffn layer to a multiple of N, dropping the units of least magnitude.

Kernels like multiples (of 8 for vector units, of 64 for integer matrix units); a checkpoint pruned to an odd
width may be slower than one that is a little narrower still. A layer narrower than N stays and is noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from archtool.run.step import Context, Shared, State, Step, StepOptions, option

if TYPE_CHECKING:
    from archtool.ir.edit import Edit


class RoundWidthsOptions(StepOptions):
    """Options of ``round-widths``."""

    multiple: int = option(8, "Every ffn width becomes a multiple of this.", ge=2)


def rounded(scores: Mapping[str, Sequence[float]], multiple: int) -> Edit:
    """The edit that keeps, of each axis, the best units up to the largest multiple."""
    from dataclasses import replace

    from archtool.transforms.widths import ranked, selection_edit

    kept = {axis: len(s) // multiple * multiple for axis, s in scores.items()}
    narrow = tuple((axis, f"narrower than {multiple}: stays") for axis, n in kept.items() if not n)
    wanted = {axis: n for axis, n in kept.items() if n}
    return replace(selection_edit("round-widths", ranked(scores), wanted, scores), notes=narrow)


class RoundWidths(Step[RoundWidthsOptions]):
    """Widths that kernels like."""

    name: ClassVar[str] = "round-widths"
    Options = RoundWidthsOptions
    summary: ClassVar[str] = "Narrow every ffn layer to a multiple of N."
    examples: ClassVar[tuple[str, str]] = (
        "archtool round-widths my-llama --multiple 64",
        "archtool round-widths my-llama --protect b0 --out rounded",
    )
    shared: ClassVar[tuple[Shared, ...]] = ("task", "data", "columns", "length", "protect", "require")

    def run(self, state: State, options: RoundWidthsOptions, context: Context) -> State:
        """Score by magnitude, keep the best of each layer."""
        from archtool.model.apply import apply
        from archtool.run.steps.editing import finish
        from archtool.transforms.prune.criteria.magnitude import scores
        from archtool.transforms.units import check_patterns, unit_axes

        arch = state.checkpoint.architecture
        check_patterns(arch, context.recipe.protect)
        axes = unit_axes(arch, ("ffn",), context.recipe.protect)
        edit = rounded(scores(state.checkpoint, axes, context.progress), options.multiple)
        return finish(state, edit, apply(state.checkpoint, edit), context, None, self.name)
