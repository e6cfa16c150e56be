"""A plugin without torch: its "model" is a text file. It serves the tests of engine, recipes and commands."""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from archtool.config.fields import BudgetText
from archtool.errors import BudgetError, InputError
from archtool.registry import Capability
from archtool.run.persist import Hooks
from archtool.run.step import Estimate, State, Step, StepOptions, option

DESCRIBED = Capability("archtool_fake:Append", "Described without importing it.", {"exact": "yes"})


class Inner(StepOptions):
    depth: int = 1


class AppendOptions(StepOptions):
    text: str = option(help="What to append.", panel="Input")
    times: int = option(1, "How often.", ge=1)
    bits: Literal[2, 3, 4, 8] = option(4, "A choice of numbers.")
    mode: Literal["plain", "loud"] = option("plain", "A choice of words.")
    budget: BudgetText | None = option(None, "What the result may cost.", panel="Budget")
    upper: bool = option(False, "Whether to write capitals.")
    ratio: float | None = option(None, "A number.")
    words: tuple[str, ...] = option((), "Several words.")
    inner: Inner = Inner()


class Append(Step[AppendOptions]):
    """Appends text to the model."""

    name = "append"
    Options = AppendOptions
    summary = "Append text to the model."
    examples = ("archtool append model.txt --text abc", "archtool append model.txt --text abc --times 3")
    shared = ("data", "columns", "protect", "require", "threads")

    def run(self, state, options, context):
        text = options.text.upper() if options.upper else options.text
        edits = (*state.edits, f"append {text} x{options.times}")
        return replace(state, checkpoint=(state.checkpoint or "") + text * options.times, edits=edits)

    def estimate(self, state, options):
        return Estimate(seconds=2.0, memory_bytes=3_000_000, disk_bytes=len(state.checkpoint or ""))


class Measure(Step):
    """Counts characters."""

    name = "measure"
    summary = "Count characters."
    examples = ("archtool measure model.txt", "archtool measure model.txt --json")
    writes = False
    shared = ("require",)

    def run(self, state, options, context):
        metrics = {"characters": float(len(state.checkpoint)), "parent_characters": float(len(state.parent))}
        return replace(state, metrics=metrics, records={"measure": {"seed": context.seed}})


class PauseOptions(StepOptions):
    units: int = 3


class Pause(Step[PauseOptions]):
    """Works in units that are recorded one by one; how long each takes is set from outside."""

    name = "pause"
    Options = PauseOptions
    summary = "Work in units."
    examples = ("archtool pause model.txt", "archtool pause model.txt --units 2")

    def run(self, state, options, context):
        notes = context.work / "notes"
        for unit in range(options.units):
            if str(unit) not in context.finished():
                with notes.open("a") as file:
                    file.write(str(unit))
                context.finish(str(unit), value=unit)
                time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
        return replace(state, checkpoint=state.checkpoint + notes.read_text())


class FailOptions(StepOptions):
    how: str = "bug"


class Fail(Step[FailOptions]):
    """Fails as told."""

    name = "fail"
    Options = FailOptions
    summary = "Fail."
    examples = ("archtool fail model.txt", "archtool fail model.txt --how budget")

    def run(self, state, options, context):
        causes = {
            "bug": KeyError("lost"),
            "budget": BudgetError("no model fits", "nearest: params=3M"),
            "disk": OSError(28, "No space left on device", "model.bin"),
            "memory": MemoryError(),
            "interrupt": KeyboardInterrupt(),
        }
        raise causes[options.how]


def _open(recipe):
    if recipe.model is None:
        return State()
    path = Path(recipe.model.path)
    if not path.is_file():
        raise InputError(f"{path} is not a model")
    return State(checkpoint=path.read_text())


def _save(state, folder):
    (folder / "model").mkdir()
    (folder / "model" / "weights.txt").write_text(state.checkpoint)
    (folder / "edit.json").write_text("\n".join(state.edits))
    return hashlib.sha256(state.checkpoint.encode()).hexdigest()


def _load(folder):
    edits = tuple((folder / "edit.json").read_text().splitlines())
    return State(checkpoint=(folder / "model" / "weights.txt").read_text(), edits=edits)


HOOKS = Hooks(_open, _save, _load)

if __name__ == "__main__":
    from archtool.cli import main, runner

    runner.HOOKS = "archtool_fake:HOOKS"
    main.main()
