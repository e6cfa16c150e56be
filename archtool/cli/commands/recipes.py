"""``archtool recipes ls|show|cp|validate``."""

from pathlib import Path
from typing import Annotated

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json, emit_table
from archtool.errors import ResourceError, UsageError

app = new_app()
Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A file, or the name of a shipped recipe.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change any recipe value.")]


@app.callback(help="List, show, copy and check recipes.")
def _recipes() -> None:
    return None


@app.command("ls", epilog=examples("archtool recipes ls", "archtool recipes ls --json"))
def ls(json: Json = False) -> None:
    """List the recipes that ship with archtool."""
    from archtool.config.shipped import recipe_summary, shipped_recipes

    rows = [(name, recipe_summary(path)) for name, path in shipped_recipes().items()]
    if json:
        emit_json([{"name": name, "summary": summary} for name, summary in rows])
    else:
        emit_table(("recipe", "what it does"), rows)


@app.command("show", epilog=examples("archtool recipes show quickstart", "archtool recipes show my.yaml --json"))
def show(recipe: Name, json: Json = False) -> None:
    """Print a recipe (with --json: fully resolved)."""
    from archtool.config.load import read_recipe
    from archtool.config.shipped import find_recipe

    path = find_recipe(recipe)
    if json:
        emit_json(read_recipe(path).resolved())
    else:
        emit(path.read_text(encoding="utf-8").rstrip("\n"))


@app.command(
    "cp", epilog=examples("archtool recipes cp quickstart", "archtool recipes cp quantize/int8 my.yaml --model my-bert")
)
def cp(
    recipe: Name,
    target: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; here by default.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Write this as the recipe's model.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Write this as the recipe's data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Copy a recipe to change it; its comments stay."""
    from archtool.config.shipped import find_recipe

    source = find_recipe(recipe)
    target = target or Path(source.name)
    target = target / source.name if target.is_dir() else target
    if target.exists() and not force:
        raise UsageError(f"{target} is there already", "--force replaces it")
    if dry_run:
        emit_json({"file": str(target), "written": False}) if json else emit(f"would write {target}")
        return
    try:
        target.write_text(_filled(source, {"model": model, "data": data}), encoding="utf-8")
    except OSError as problem:
        raise ResourceError(f"cannot write {target}: {problem.strerror}", "give another file") from problem
    emit_json({"file": str(target)}) if json else emit(str(target))


def _filled(source: Path, values: dict[str, str | None]) -> str:
    """The recipe's text with its own lines for model and data replaced."""
    lines = source.read_text(encoding="utf-8").splitlines()
    for key, value in values.items():
        if value is not None:
            lines = [_line(key, value) if line.startswith(f"{key}:") else line for line in lines]
            if _line(key, value) not in lines:
                lines.append(_line(key, value))
    return "\n".join(lines) + "\n"


def _line(key: str, value: str) -> str:
    import json

    return f"{key}: {json.dumps(value)}"


@app.command(
    "validate",
    epilog=examples("archtool recipes validate my.yaml", "archtool recipes validate my.yaml --json"),
)
def validate(recipe: Name, sets: Sets = None, json: Json = False) -> None:
    """Check a recipe, without running it, and report every mistake at once."""
    from archtool.config.load import read_recipe
    from archtool.config.shipped import find_recipe

    path = find_recipe(recipe)
    checked = read_recipe(path, sets or ())
    if json:
        emit_json({"valid": True, "file": str(path), "steps": list(checked.verbs)})
    else:
        emit(f"{path} is valid: {', '.join(checked.verbs)}")
