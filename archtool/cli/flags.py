"""The flags that commands share: one table, so that a flag is spelled and explained the same everywhere.

`SHARED` flags set a field of the recipe and appear only on the verbs that ask for them; `COMMON` ones say
how to run and appear on every command that runs a recipe.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Only the result, as JSON, on stdout.", rich_help_panel="Output")]
Words = list[str] | None


def _option(kind: Any, flags: str, help: str, panel: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*flags.split(), help=help.replace("[", "\\["), rich_help_panel=panel, **more)]


SHARED: Mapping[str, Any] = {
    "names": _option(str | None, "--names", "A table of your own tensor names (YAML).", "Input", metavar="FILE"),
    "data": _option(str | None, "--data", "Data: file, folder or known name.", "Input", metavar="FILE"),
    "columns": _option(Words, "--columns", "Which column is what, such as label=y.", "Input", metavar="NAME=COLUMN"),
    "task": _option(str | None, "--task", "What is measured: a task, or my.py:metric.", "Input", metavar="TASK"),
    "protect": _option(Words, "--protect", "Blocks or tensors that stay as they are.", "Method", metavar="PATTERN"),
    "recover": _option(
        str | None, "--recover", "Distillation afterwards: steps=N or minutes=M.", "Method", metavar="LENGTH"
    ),
    "require": _option(Words, "--require", 'A quality gate: "accuracy>=0.9" (exit 7).', "Budget", metavar="GATE"),
    "runtime": _option(str | None, "--runtime", "Runtime to measure in. [onnxruntime]", "Runtime"),
    "batch": _option(int | None, "--batch", "Batch size. [1]", "Runtime"),
    "length": _option(int | None, "--length", "Sequence length in tokens. [64]", "Runtime"),
    "threads": _option(int | None, "--threads", "Threads. [all cores]", "Runtime"),
    "device": _option(str | None, "--device", "Device. [cpu]", "Runtime"),
    "dtype": _option(str | None, "--dtype", "Type to compute in: fp32, bf16, fp16, fp64. [fp32]", "Runtime"),
}
"""Recipe field → its flag; ``None`` means not given. A recipe's defaults stand in brackets."""

COMMON: Mapping[str, tuple[Any, Any]] = {
    "seed": (_option(int | None, "--seed", "Seed of everything random. [0]", "Runtime"), None),
    "sets": (_option(Words, "--set", "Change any recipe value.", "Method", metavar="PATH=VALUE"), None),
    "out": (_option(Path | None, "--out -o", "Run directory. [runs/...]", "Output", metavar="DIR"), None),
    "force": (_option(bool, "--force", "Replace a different run in --out.", "Output"), False),
    "resume": (_option(bool, "--resume/--no-resume", "Continue an interrupted run.", "Output"), True),
    "keep_work": (_option(bool, "--keep-work", "Keep the states between steps.", "Output"), False),
    "dry_run": (_option(bool, "--dry-run", "Show the plan and its estimates; run nothing.", "Output"), False),
    "json": (Json, False),
    "quiet": (_option(bool, "--quiet -q", "No progress.", "Output"), False),
    "verbose": (_option(bool, "--verbose -v", "More detail on stderr.", "Output"), False),
}
"""Parameter → (its flag, default)."""


@dataclass(frozen=True)
class Common:
    """The values of the `COMMON` flags."""

    seed: int | None = None
    sets: tuple[str, ...] = ()
    out: Path | None = None
    force: bool = False
    resume: bool = True
    keep_work: bool = False
    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @classmethod
    def take(cls, values: dict[str, Any]) -> "Common":
        """Remove the common flags from a command's values and return them."""
        found = {name: values.pop(name) for name in COMMON}
        return cls(**found | {"sets": tuple(found["sets"] or ())})


def common_parameters() -> list[inspect.Parameter]:
    """The `COMMON` flags as parameters of a command function."""
    return [parameter(name, kind, default) for name, (kind, default) in COMMON.items()]


def parameter(name: str, kind: Any, default: Any = None) -> inspect.Parameter:
    """One keyword parameter with its Typer annotation."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def with_parameters(
    function: Callable[[dict[str, Any]], None], parameters: Iterable[inspect.Parameter], help: str
) -> Callable[..., None]:
    """A function with the given signature that hands all its values to ``function`` as one dictionary."""
    listed = list(parameters)

    def command(**values: Any) -> None:
        function(values)

    command.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in listed}
    command.__doc__ = help
    return command


def new_app() -> typer.Typer:
    """An empty command for one file of `archtool.cli.commands`."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def examples(first: str, second: str) -> str:
    """The two examples at the end of a command's help."""
    lines = [line.replace("[", "\\[") for line in (first, second)]
    return "\n\n".join(["[bold]Examples[/bold]", *lines])
