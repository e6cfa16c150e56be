"""What the processes beside the main one do under `torchrun`: take part in the steps that need all of them."""

import tempfile
from pathlib import Path

from archtool.run.folder import RunDir
from archtool.run.journal import Journal
from archtool.run.persist import Hooks, Saved, restore, start
from archtool.run.plan import Plan, PlannedStep
from archtool.run.processes import tell, wait
from archtool.run.step import Context


def follow(plan: Plan, hooks: Hooks) -> None:
    """Follow the main process through a run: its folder is read, and nothing is written but scratch."""
    told = tell(None)
    if told is None:  # the run was finished before
        return
    folder, done = RunDir(Path(told[0])), int(told[1])
    first = start(hooks, plan.recipe)
    for planned in plan.steps[done:]:
        if planned.step.distributed:
            _take_part(plan, planned, hooks, folder, first)
        wait()


def _take_part(plan: Plan, planned: PlannedStep, hooks: Hooks, folder: RunDir, first: Saved) -> None:
    before = restore(hooks, folder, plan.steps[planned.index - 1].name, first) if planned.index else first
    with tempfile.TemporaryDirectory(prefix="archtool-") as place:
        scratch = Path(place)
        context = Context(
            recipe=plan.recipe, index=planned.index, seed=plan.recipe.seed, folder=scratch, work=scratch,
            journal=Journal(scratch / "journal.jsonl"),
        )  # fmt: skip
        planned.step.run(before.state, planned.options, context)
