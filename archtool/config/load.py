"""From a recipe file (and ``--set`` overrides) to a checked `Recipe`, all mistakes reported at once.

Each step's options are checked against the step's own class, which the registry finds by its verb.
Relative paths are taken from the recipe's folder first, then from the current one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archtool.config.check import check
from archtool.config.data_section import DataSection
from archtool.config.document import Document, Loc, load_yaml
from archtool.config.fields import INPUT
from archtool.config.override import override
from archtool.config.recipe import Recipe
from archtool.errors import ArchtoolError, ErrorList, RecipeError, Where
from archtool.registry import entries, load, suggestion

DATA_PATHS = ("path", "train", "validation", "dev", "test", "calibration", "names")


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe file; raises `RecipeError` or an `ErrorList` of them."""
    document = load_yaml(path)
    for text in overrides:
        override(document, text)
    return check_recipe(document, path.parent)


def check_recipe(document: Document, folder: Path | None = None) -> Recipe:
    """Check a document as a recipe and resolve its paths against ``folder``."""
    if not isinstance(document.data, dict):
        what = "this is not a recipe: expected keys such as model, data and steps"
        raise RecipeError(what, "`archtool recipes ls` shows examples", document.where_value(()))
    data = dict(document.data)
    problems = _empty(document, data)
    steps, step_problems = _steps(document, data.get("steps"))
    if steps is not None:
        data["steps"] = steps
    recipe, shape_problems = check(document, Recipe, data)
    if isinstance(data.get("data"), dict):
        shape_problems += check(document, DataSection, data["data"], ("data",))[1]
    problems += step_problems if steps is not None else []
    problems += [p for p in shape_problems if p.where not in [other.where for other in problems] or p.where is None]
    if recipe is None or problems:
        raise problems[0] if len(problems) == 1 else ErrorList(_in_order(problems))
    return _with_paths(recipe, folder or Path())


def _empty(document: Document, data: dict[str, Any]) -> list[ArchtoolError]:
    """Top-level keys with nothing under them: usually a lost indentation."""
    hint = "indent the lines below it, or delete the key"
    return [
        RecipeError(f"`{key}` is empty here", hint, document.where_key((key,)))
        for key, value in data.items()
        if value is None and key in Recipe.model_fields and not _is_null(document.where_value((key,)))
    ]


def _is_null(where: Where | None) -> bool:
    """Whether ``null`` is written there, as opposed to nothing."""
    return where is not None and where.text[where.column - 1 :].startswith(("null", "~"))


def _steps(document: Document, given: Any) -> tuple[list[Any] | None, list[ArchtoolError]]:
    """The steps with defaults filled in, and their problems; None when ``steps`` is not a list."""
    if not isinstance(given, list):
        return None, []
    problems: list[ArchtoolError] = []
    steps: list[Any] = []
    for index, step in enumerate(given):
        checked, found = _step(document, step, ("steps", index))
        steps.append(checked)
        problems += found
    return steps, problems


def _step(document: Document, step: Any, loc: Loc) -> tuple[dict[str, Any], list[ArchtoolError]]:
    if isinstance(step, str):
        step = {step: {}}
    if not isinstance(step, dict) or len(step) != 1:
        found = f"{len(step)} keys: {', '.join(step)}" if isinstance(step, dict) else repr(step)
        what = f"a step is one verb with options, not {found}"
        hint = "write `- prune: {budget: params=0.5x}`; options are indented under the verb"
        return {}, [RecipeError(what, hint, document.where_value(loc))]
    verb, options = next(iter(step.items()))
    if verb not in entries("steps"):
        hint = suggestion(verb, entries("steps"))
        return {}, [RecipeError(f"unknown step `{verb}`", hint, document.where_key((*loc, verb)))]
    model, problems = check(document, load("steps", verb).Options, options or {}, (*loc, verb))
    return {verb: model.model_dump(mode="json") if model else {}}, problems


def _in_order(problems: list[ArchtoolError]) -> list[ArchtoolError]:
    return sorted(problems, key=lambda p: (p.where.line, p.where.column) if p.where else (0, 0))


def _with_paths(recipe: Recipe, folder: Path) -> Recipe:
    changes: dict[str, Any] = {}
    if recipe.model is not None:
        fields = {name: getattr(recipe.model, name) for name in ("path", "build", "names")}
        update = {name: find(value, folder) for name, value in fields.items() if isinstance(value, str)}
        changes["model"] = recipe.model.model_copy(update=update)
    if recipe.data is not None:
        changes["data"] = {
            key: find(value, folder) if key in DATA_PATHS and isinstance(value, str) else value
            for key, value in recipe.data.items()
        }
    if read := input_options(recipe):
        changes["steps"] = tuple(
            {verb: {k: _found(v, folder) if (i, verb, k) in read else v for k, v in options.items()}}
            for i, step in enumerate(recipe.steps)
            for verb, options in step.items()
        )
    return recipe.model_copy(update=changes)


def _found(value: Any, folder: Path) -> Any:
    return [find(word, folder) for word in value] if isinstance(value, list) else find(value, folder)


def input_options(recipe: Recipe) -> dict[tuple[int, str, str], tuple[str, ...]]:
    """The options of steps that name something to read: (step, verb, option) → its words."""
    found: dict[tuple[int, str, str], tuple[str, ...]] = {}
    for i, (verb, options) in enumerate(zip(recipe.verbs, recipe.options, strict=True)):
        fields = load("steps", verb).Options.model_fields if verb in entries("steps") else {}
        for name in (name for name, field in fields.items() if INPUT in field.metadata and options.get(name)):
            value = options[name]
            found[i, verb, name] = (value,) if isinstance(value, str) else tuple(value)
    return found


def find(text: str, folder: Path) -> str:
    """An absolute path if ``text`` exists beside the recipe or here; otherwise ``text`` itself.

    Of ``FILE.py:NAME`` the file is meant.
    """
    file, name = split_name(text)
    for base in (folder, Path()):
        candidate = base / Path(file).expanduser()
        if candidate.exists():
            return str(candidate.resolve()) + name
    return text


def split_name(text: str) -> tuple[str, str]:
    """``FILE.py`` and ``:NAME`` of ``FILE.py:NAME``; other texts whole."""
    file, colon, name = text.rpartition(":")
    return (file, colon + name) if file.endswith(".py") and name.isidentifier() else (text, "")
