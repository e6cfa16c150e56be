"""What every command that runs a recipe does after it has one: plan or run it, and show the result."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.cli.flags import Common
from archtool.cli.output import emit, emit_json, emit_table, note

if TYPE_CHECKING:
    from archtool.config.recipe import Recipe
    from archtool.run.engine import RunResult
    from archtool.run.persist import Hooks
    from archtool.run.plan import Plan
    from archtool.run.step import Estimate

HOOKS = "archtool.run.hooks:HOOKS"
"""Where the functions that read and write models are; imported when a recipe runs."""


def load_hooks() -> "Hooks":
    """The engine's model functions."""
    from archtool.registry import resolve

    hooks: Hooks = resolve(HOOKS)
    return hooks


def execute(recipe: "Recipe", common: Common, argv: tuple[str, ...]) -> None:
    """Run or plan a recipe and show what came of it; quality gates are checked last.

    Of several processes (`torchrun`) the main one does; the others only take part.
    """
    from archtool.config.gates import check_gates
    from archtool.run.engine import dry_run, run_recipe
    from archtool.run.processes import is_main

    hooks = load_hooks()
    if not is_main():
        run_recipe(recipe, hooks, out=common.out)
        return
    if common.dry_run:
        plan, found = dry_run(recipe, hooks, out=common.out)
        show_plan(plan, found, common)
        return
    result = run_recipe(recipe, hooks, out=common.out, settings=_settings(common, argv))
    show_result(result, common)
    check_gates(recipe.require, result.metrics)


def _settings(common: Common, argv: tuple[str, ...]) -> Any:
    from archtool.cli.bars import make_progress
    from archtool.run.engine import RunSettings

    return RunSettings(
        resume=common.resume,
        force=common.force,
        keep_work=common.keep_work,
        argv=argv,
        progress=make_progress(common.quiet),
        log=(lambda message: None) if common.quiet else note,
        detail=note if common.verbose else lambda message: None,
    )


def show_result(result: "RunResult", common: Common) -> None:
    """The metrics and where the output is."""
    if common.json:
        emit_json(result.as_json())
        return
    if result.cached:
        note("already done: this is the earlier result (--no-resume runs it again)")
    if result.folder is not None and (result.folder / "metrics.json").exists():
        _show_summary(result.folder)
    elif result.metrics:
        emit_table(("metric", "value"), [(name, _number(value)) for name, value in result.metrics.items()])
    if result.folder is not None:
        for line in _places(result.folder):
            emit(line)


def _show_summary(folder: Path) -> None:
    """The report's own terminal form, so that screen and page cannot disagree."""
    from rich.console import Console

    from archtool.report import read_report, summary

    Console(highlight=False).print(summary(read_report(folder)))


def show_plan(plan: "Plan", found: "tuple[Estimate, ...]", common: Common) -> None:
    """The steps with their options and estimates."""
    steps = [
        {"verb": planned.verb, "options": planned.options.model_dump(mode="json"), **_estimate(estimate)}
        for planned, estimate in zip(plan.steps, found, strict=True)
    ]
    total = {
        "seconds": sum(e.seconds for e in found),
        "memory_bytes": max(e.memory_bytes for e in found),
        "disk_bytes": sum(e.disk_bytes for e in found),
    }
    folder = str(plan.folder) if plan.folder else None
    if common.json:
        emit_json({"plan": steps, "total": total, "folder": folder, "fingerprint": plan.fingerprint})
        return
    emit_table(
        ("step", "time", "memory", "disk", "options"),
        [(s["verb"], *_needs(s), _options(s["options"]) + (f"  ({s['note']})" if s["note"] else "")) for s in steps],
    )
    emit("total: time {}, memory {}, disk {}".format(*_needs(total)))
    emit(f"output: {folder or 'nothing is kept'}")


def size_text(size_bytes: float) -> str:
    """Bytes as a person reads them (1 MB = 10^6 bytes)."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def _estimate(estimate: "Estimate") -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(estimate)


def _needs(needs: Mapping[str, Any]) -> tuple[str, str, str]:
    seconds, memory, disk = (needs[key] for key in ("seconds", "memory_bytes", "disk_bytes"))
    sizes = tuple(size_text(value) if value else "unknown" for value in (memory, disk))
    return (f"{seconds:.0f} s" if seconds else "unknown", *sizes)  # type: ignore[return-value]


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items() if value is not None)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _places(folder: Path) -> list[str]:
    named = (("model", folder / "model"), ("report", folder / "report.html"), ("run", folder))
    return [f"{name + ':':8}{path}" for name, path in named if path.exists()]
