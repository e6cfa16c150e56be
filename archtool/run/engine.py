"""Run a recipe: steps in order, each persisted before the next, resumable after any interruption.

The one place that writes run directories. Two promises: a step whose journal line exists is never run
again, and an uninterrupted run and a resumed one see the same states, because every step continues from what
was written to disk.
"""

import json
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archtool.config.lock import lock_text
from archtool.config.recipe import Recipe
from archtool.errors import ArchtoolError, UsageError
from archtool.progress import SILENT, Progress
from archtool.run.fingerprint import input_paths, keys
from archtool.run.folder import RunDir, check_for, write_json, write_text
from archtool.run.follow import follow
from archtool.run.persist import INPUT, Hooks, Saved, facts, needed, restore, save, start
from archtool.run.plan import Plan, PlannedStep, estimates, make_plan
from archtool.run.processes import is_main, tell, together, wait
from archtool.run.provenance import provenance
from archtool.run.step import Context, Estimate


class Interrupted(ArchtoolError):
    """Ctrl-C during a run; the hint is the command that continues it (exit 130)."""

    exit_code = 130


@dataclass(frozen=True)
class RunResult:
    """What a run gave. ``folder`` is None when nothing was kept; ``cached`` when it was already done."""

    folder: Path | None
    metrics: Mapping[str, float]
    records: Mapping[str, Any]
    hash: str
    cached: bool = False

    def as_json(self) -> dict[str, Any]:
        """The result as plain data, metrics first."""
        folder = str(self.folder) if self.folder else None
        run = {"folder": folder, "hash": self.hash, "cached": self.cached}
        return {**self.metrics, "records": dict(self.records), "run": run}


@dataclass(frozen=True)
class RunSettings:
    """How to run, as opposed to what.

    Attributes:
        resume: continue unfinished work of the same run (False: begin again).
        force: replace a different run in the same folder.
        keep_work: keep the states between steps.
        argv: the command line, for the provenance.
    """

    resume: bool = True
    force: bool = False
    keep_work: bool = False
    argv: tuple[str, ...] = ()
    progress: Progress = SILENT
    log: Callable[[str], None] = field(default=lambda message: None)
    detail: Callable[[str], None] = field(default=lambda message: None)


def run_recipe(
    recipe: Recipe, hooks: Hooks, *, out: Path | None = None, settings: RunSettings | None = None
) -> RunResult:
    """Run a recipe and return its result; a finished run with the same fingerprint is returned at once.

    Under `torchrun` the main process does, and the others train along (`archtool.run.follow`); their result is empty.

    Quality gates are checked by the caller (`archtool.config.gates.check_gates`), which can show the result
    first.

    Raises:
        ArchtoolError: whatever is wrong with recipe, inputs or folder.
        Interrupted: after Ctrl-C, with the command that resumes.
    """
    settings = settings or RunSettings()
    plan = make_plan(recipe, out)
    with together(recipe.device):
        if not is_main():
            follow(plan, hooks)
            return RunResult(None, {}, {}, "")
        with _folder(plan) as path:
            folder = RunDir(Path(path))
            with folder.claim():
                return _claimed(plan, folder, hooks, settings)


def _claimed(plan: Plan, folder: RunDir, hooks: Hooks, settings: RunSettings) -> RunResult:
    """Run in a folder that is ours; the model is opened before anything there is replaced."""
    mine = keys(plan.recipe, plan.inputs)
    _refuse_own_input(plan, folder)
    started = check_for(folder, mine, _keys_there(folder), settings.resume, settings.force)
    result = _finished(plan, folder) if started else None
    if result is not None:
        folder.finish(settings.keep_work)  # a crash may have come right after the last journal line
        tell(None)
        return result
    first = start(hooks, plan.recipe)
    if not started:
        _begin(plan, folder, settings)
    try:
        return _Run(plan, folder, hooks, settings, first).run()
    except (ArchtoolError, OSError) as problem:
        if not isinstance(problem, Interrupted) and not folder.journal.has("unit", "step"):
            folder.clear()  # nothing there is worth resuming
        raise


def dry_run(recipe: Recipe, hooks: Hooks, *, out: Path | None = None) -> tuple[Plan, tuple[Estimate, ...]]:
    """The plan and each step's estimate; writes nothing but ``recipe.lock.yaml`` (where a folder is kept)."""
    plan = make_plan(recipe, out)
    found = estimates(plan, hooks.open_model(recipe))
    if plan.folder is not None:
        folder = RunDir(plan.folder)
        folder.create()
        if not check_for(folder, {}, None, resume=True, force=False):
            folder.clear()
            write_text(folder.lock, lock_text(recipe, plan.fingerprint, plan.inputs))
    return plan, found


def _folder(plan: Plan) -> AbstractContextManager[Any]:
    if plan.folder is not None:
        return nullcontext(plan.folder)
    return tempfile.TemporaryDirectory(prefix="archtool-")


def _begin(plan: Plan, folder: RunDir, settings: RunSettings) -> None:
    """Clear the folder, then write the lock file and the provenance."""
    folder.clear()
    text = lock_text(plan.recipe, plan.fingerprint, plan.inputs)
    record = provenance(text, plan.recipe.seed, plan.recipe.threads, plan.inputs, settings.argv)
    write_text(folder.lock, text)
    write_json(folder.provenance, record)
    folder.journal.append({"event": "start", "fingerprint": plan.fingerprint})


def _refuse_own_input(plan: Plan, folder: RunDir) -> None:
    """A run may not replace what it reads."""
    for key, path in input_paths(plan.recipe).items():
        if path.resolve().is_relative_to(folder.path.resolve()):
            raise UsageError(f"`{key}` ({path}) lies inside the output {folder.path}", "give another --out")


def _keys_there(folder: RunDir) -> Mapping[str, str] | None:
    """The keys of the run that is already in the folder; None when there is none that can be read."""
    import yaml

    if not folder.lock.exists():
        return None
    try:
        data = yaml.safe_load(folder.lock.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(data)
    except (yaml.YAMLError, ValueError):
        return {"recipe.lock.yaml": "unreadable"}
    return keys(recipe, (recipe.lock or {}).get("inputs", {}))


def _finished(plan: Plan, folder: RunDir) -> RunResult | None:
    """The result of a run that is complete in this folder."""
    done = folder.journal.events("done")
    if not done:
        return None
    found = json.loads(folder.result.read_text(encoding="utf-8"))
    return RunResult(plan.folder, found["metrics"], found["records"], done[-1]["hash"], cached=True)


@dataclass
class _Run:
    """One execution of a plan in a folder that is claimed and prepared."""

    plan: Plan
    folder: RunDir
    hooks: Hooks
    settings: RunSettings
    first: Saved

    def run(self) -> RunResult:
        """Run the steps that are not done, then put everything in its place."""
        try:
            saved = self._steps()
            return self._finish(saved)
        except KeyboardInterrupt as stop:
            raise self._interrupted() from stop

    def _steps(self) -> Saved:
        first = saved = self.first
        done = len(self.folder.journal.events("step"))
        tell((str(self.folder.path.resolve()), done))
        if done == len(self.plan.steps):
            return self._recorded(self.plan.steps[-1], saved)
        if done:
            self.settings.log(f"resuming after {', '.join(p.verb for p in self.plan.steps[:done])}")
            saved = restore(self.hooks, self.folder, self.plan.steps[done - 1].name, first)
        for planned in self.plan.steps[done:]:
            saved = self._step(planned, first, saved)
            wait()
        return saved

    def _step(self, planned: PlannedStep, first: Saved, before: Saved) -> Saved:
        begun = time.monotonic()
        scratch = self.folder.work / f"{planned.name}.scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        after = planned.step.run(before.state, planned.options, self._context(planned, scratch))
        last = not any(later.step.writes for later in self.plan.steps[planned.index + 1 :])
        saved = save(self.hooks, self.folder, planned.name, first, before, after, last)
        record = {"event": "step", "step": planned.index, "verb": planned.verb, "hash": saved.hash}
        seconds = round(time.monotonic() - begun, 3)
        self.folder.journal.append(record | {"seconds": seconds, "metrics": dict(saved.state.metrics)})
        self.settings.detail(f"{planned.name}: {seconds} s, model {saved.hash or 'unchanged'}")
        if not self.settings.keep_work:
            self._drop(scratch, planned, saved)
        return saved

    def _context(self, planned: PlannedStep, scratch: Path) -> Context:
        return Context(
            recipe=self.plan.recipe,
            index=planned.index,
            seed=self.plan.recipe.seed,
            folder=self.folder.path,
            work=scratch,
            journal=self.folder.journal,
            progress=self.settings.progress,
            log=self.settings.log,
            detail=self.settings.detail,
        )

    def _drop(self, scratch: Path, planned: PlannedStep, saved: Saved) -> None:
        """Delete the states that no resume reads any more."""
        shutil.rmtree(scratch, ignore_errors=True)
        keep = needed(self.folder, saved) | {planned.name}
        for other in self.folder.work.iterdir():
            if other.is_dir() and other.name not in keep:
                shutil.rmtree(other)

    def _recorded(self, planned: PlannedStep, first: Saved) -> Saved:
        """The last state without its model, which may already have been moved to its place."""
        found = facts(self.folder, planned.name)
        state = type(first.state)(metrics=found["metrics"], records=found["records"])
        return Saved(state, found["model"], found["parent"], found["hash"])

    def _finish(self, saved: Saved) -> RunResult:
        metrics, records = dict(saved.state.metrics), dict(saved.state.records)
        steps = [
            {key: record[key] for key in ("verb", "seconds", "metrics")}
            for record in self.folder.journal.events("step")
        ]
        write_json(self.folder.result, {"metrics": metrics, "records": records, "steps": steps})
        self._record_times(steps)
        self._move_out(saved)
        self.hooks.finish(self.folder.path)
        self.folder.journal.append({"event": "done", "hash": saved.hash})
        self.folder.finish(self.settings.keep_work)
        return RunResult(self.plan.folder, metrics, records, saved.hash)

    def _move_out(self, saved: Saved) -> None:
        """Move the last model and its edit into the run directory; safe to repeat after a crash."""
        source = self.folder.work / (saved.model or "")
        if saved.model in (None, INPUT) or not source.is_dir():
            return
        for entry in sorted(source.iterdir()):
            if entry.name != "state.json":
                entry.replace(self.folder.path / entry.name)

    def _record_times(self, steps: Sequence[Mapping[str, Any]]) -> None:
        found = json.loads(self.folder.provenance.read_text(encoding="utf-8"))
        found["seconds"] = [{"verb": step["verb"], "seconds": step["seconds"]} for step in steps]
        write_json(self.folder.provenance, found)

    def _interrupted(self) -> Interrupted:
        if self.plan.folder is None:
            return Interrupted("interrupted; nothing was kept")
        folder = self.plan.folder
        words = ["archtool", "run", str(folder / self.folder.lock.name), "--out", str(folder)]
        return Interrupted("interrupted", f"continue with: {shlex.join(words)}")
