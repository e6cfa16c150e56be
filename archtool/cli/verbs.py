"""One command per step, made from the step's options: adding a step file adds a command.

The command builds a one-step recipe from its flags and hands it to the same engine as ``archtool run``.
Mistakes in the flags are shown at the flag and exit with 2.
"""

import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from archtool.cli.flags import (
    COMMON,
    SHARED,
    Common,
    common_parameters,
    examples,
    new_app,
    parameter,
    with_parameters,
)
from archtool.cli.runner import execute
from archtool.config.document import Document, Loc, parse_yaml
from archtool.config.load import check_recipe
from archtool.config.override import override
from archtool.config.recipe import Recipe
from archtool.errors import ArchtoolError, ErrorList, RecipeError, UsageError, Where
from archtool.registry import Entry
from archtool.run.step import Step

MODEL_SHARED = ("names",)
RECOVER = "recover"
"""The step that ``--recover`` adds after the verb."""


def step_app(entry: Entry) -> typer.Typer:
    """The command of one registered step."""
    made = entry.load()
    step: Step[Any] = made() if isinstance(made, type) else made
    app = new_app()

    def run(values: dict[str, Any]) -> None:
        common = Common.take(values)
        execute(flag_recipe(step, values, common), common, tuple(sys.argv))

    command = with_parameters(run, _parameters(step), step.summary)
    app.command(step.name, epilog=examples(*step.examples))(command)
    return app


def flag_recipe(step: Step[Any], values: dict[str, Any], common: Common) -> Recipe:
    """The one-step recipe that a command line means; raises `UsageError` for mistakes in it."""
    document = _document(step, values, common)
    try:
        for text in common.sets:
            override(document, text)
        return check_recipe(document, Path())
    except ErrorList as problem:
        raise ErrorList([_as_usage(error) for error in problem.errors]) from problem
    except RecipeError as problem:
        raise _as_usage(problem) from problem


def shared_flags(step: Step[Any]) -> list[str]:
    """The recipe fields that this verb takes as flags; an option of its own with that name goes first."""
    wanted = (*(MODEL_SHARED if step.needs_model else ()), *step.shared)
    return [name for name in SHARED if name in wanted and name not in step.Options.model_fields]


def _parameters(step: Step[Any]) -> list[inspect.Parameter]:
    clash = sorted(COMMON.keys() & step.Options.model_fields.keys() | {"model"} & step.Options.model_fields.keys())
    if clash:
        raise TypeError(f"step `{step.name}`: the option names {', '.join(clash)} belong to every command")
    argument = typer.Argument(metavar="MODEL", help="Folder, file or hub id.", show_default=False)
    model = parameter("model", Annotated[str if step.needs_model else str | None, argument])
    if step.needs_model:
        model = model.replace(default=inspect.Parameter.empty)
    own = [_field(name, info) for name, info in step.Options.model_fields.items() if on_command_line(info)]
    shared = [parameter(name, SHARED[name]) for name in shared_flags(step)]
    return [model, *own, *shared, *common_parameters()]


def _field(name: str, info: FieldInfo) -> inspect.Parameter:
    """One option of the step as a flag."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kind, choices = _kind(info.annotation)
    flag = f"--{name.replace('_', '-')}"
    spelled = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    others = [str(other) for other in extra.get("flags", ())]  # type: ignore[union-attr]
    made = typer.Option(
        *([spelled] if kind is bool else [spelled, *others]),
        help=_help(info),
        rich_help_panel=str(extra.get("panel", "Method")),
        metavar="|".join(choices) or None,
        autocompletion=_completion(choices) if choices else None,
    )
    return parameter(name, Annotated[kind | None, made])


def _help(info: FieldInfo) -> str:
    text = info.description or ""
    if info.is_required():
        return f"{text} \\[required]"
    default = info.get_default(call_default_factory=True)
    if default is None or default == () or default == []:
        return text
    shown = ",".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
    return f"{text} \\[{shown.lower() if isinstance(default, bool) else shown}]"


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _plain(annotation: Any) -> Any:
    """An annotation without ``Annotated`` and without ``None``."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [argument for argument in get_args(annotation) if argument is not type(None)]
        return _plain(inner[0]) if len(inner) == 1 else str
    return annotation


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The type that Typer reads, and the choices where there are any; pydantic does the real checking."""
    plain = _plain(annotation)
    if get_origin(plain) is Literal:
        return str, tuple(map(str, get_args(plain)))
    if get_origin(plain) in (list, tuple, set, frozenset):
        return list[str], ()
    return (plain if plain in (bool, int, float) else str), ()


def on_command_line(info: FieldInfo) -> bool:
    """Whether a flag can say it; mappings and nested options are left to ``--set`` and recipes."""
    plain = _plain(info.annotation)
    nested = isinstance(plain, type) and issubclass(plain, BaseModel)
    return not nested and plain is not dict and get_origin(plain) is not dict


def _document(step: Step[Any], values: dict[str, Any], common: Common) -> Document:
    """The recipe as data, in which each value's place is its flag."""
    given = {name: value for name, value in values.items() if value is not None and value != []}
    document = Document(Path("command line"), "", {"steps": [{step.name: {}}]})
    document.values[()] = Where(Path("archtool"), 1, 1, f"archtool {step.name}")
    for name, value in (given | ({} if common.seed is None else {"seed": common.seed})).items():
        if name in step.Options.model_fields:
            _put(
                document,
                ("steps", 0, step.name, name),
                f"--{name.replace('_', '-')}",
                _literal(step, name, value),
            )
        elif name == RECOVER:
            document.data["steps"].append({RECOVER: _pairs([value], "--recover")})
        elif name in ("columns", "names"):
            _put(document, ("data" if name == "columns" else "model", name), f"--{name}", _inner(name, value))
        elif name in ("model", "data"):
            _put(document, (name, "path"), "MODEL" if name == "model" else "--data", value)
        else:
            _put(document, (name,), f"--{name}", value)
    return document


def _inner(name: str, value: Any) -> Any:
    return _pairs(value, "--columns") if name == "columns" else value


def _literal(step: Step[Any], name: str, value: Any) -> Any:
    """The value, as YAML reads it where the option is a choice among other things than words."""
    plain = _plain(step.Options.model_fields[name].annotation)
    words = get_origin(plain) is Literal and all(isinstance(choice, str) for choice in get_args(plain))
    if isinstance(value, str) and get_origin(plain) is Literal and not words:
        return parse_yaml(value, Path(f"--{name}")).data
    return value


def _put(document: Document, loc: Loc, flag: str, value: Any) -> None:
    container: Any = document.data
    for key in loc[:-1]:
        container = container[int(key)] if isinstance(container, list) else container.setdefault(key, {})
    container[loc[-1]] = value
    document.keys[loc] = document.values[loc] = Where(Path(flag), 1, 1, str(value))


def _pairs(words: list[str], flag: str) -> dict[str, str]:
    """``["a=b,c=d"]`` as a dictionary."""
    found = {}
    for word in ",".join(words).split(","):
        key, equals, value = word.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"{flag} takes name=value, not `{word}`", f"for example {flag} a=b,c=d")
        found[key.strip()] = value.strip()
    return found


def _as_usage(error: ArchtoolError) -> ArchtoolError:
    if not isinstance(error, RecipeError):
        return error
    return UsageError(error.what, error.hint, error.where)
