"""``archtool report DIR``: write a run's report again."""

from pathlib import Path
from typing import Annotated

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json
from archtool.errors import InputError

app = new_app()


@app.command("report", epilog=examples("archtool report runs/prune-vit-1a2b3c4d", "archtool report DIR --json"))
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")], json: Json = False) -> None:
    """Write the report of a run directory again."""
    if not (folder / "result.json").is_file():
        hint = "give the folder that --out named; a run writes result.json when it is done"
        raise InputError(f"{folder} is not a finished run", hint)
    from archtool.registry import resolve

    resolve("archtool.report:render")(folder)
    made = [path for path in sorted(folder.glob("report.*")) if path.is_file()]
    if json:
        emit_json({"files": [str(path) for path in made]})
        return
    for path in made:
        emit(str(path))
