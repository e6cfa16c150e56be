"""``fold``: make norms part of the linear layers and convolutions beside them."""

from __future__ import annotations

from typing import ClassVar

from archtool.config.fields import Names
from archtool.run.step import Context, Estimate, Shared, State, Step, StepOptions, option


class FoldOptions(StepOptions):
    """Options of ``fold``."""

    norms: Names = option(("batch",), "Kinds of norms to fold: batch, layer, rms, group.")


class Fold(Step[FoldOptions]):
    """Norms into weights."""

    name: ClassVar[str] = "fold"
    Options = FoldOptions
    summary: ClassVar[str] = "Make norms part of the weights beside them, exactly."
    examples: ClassVar[tuple[str, str]] = (
        "archtool fold my-mobilevit --out folded",
        "archtool fold my-vit --norms layer --protect b0 --json",
    )
    shared: ClassVar[tuple[Shared, ...]] = (
        "task", "data", "columns", "length", "threads", "device", "dtype", "protect", "require",
    )  # fmt: skip

    def estimate(self, state: State, options: FoldOptions) -> Estimate:
        """One pass over the weights."""
        from archtool.run.steps.editing import disk_estimate

        return disk_estimate(state)

    def run(self, state: State, options: FoldOptions, context: Context) -> State:
        """Fold what can be folded, and say what cannot."""
        from archtool.model.apply import apply
        from archtool.run.steps.editing import finish
        from archtool.transforms.fold.norms import fold_edit
        from archtool.transforms.units import check_patterns

        arch, protect = state.checkpoint.architecture, context.recipe.protect
        check_patterns(arch, protect)
        edit = fold_edit(arch, options.norms, protect)
        context.log(f"{len(edit.decisions)} norms folded")
        if edit.notes:
            first, why = edit.notes[0]
            context.log(f"{len(edit.notes)} norms are not folded: {first} ({why}), …")
        return finish(state, edit, apply(state.checkpoint, edit), context, None, self.name)
