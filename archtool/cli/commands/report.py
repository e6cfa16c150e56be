"""``archtool report DIR``: write a run's report again."""

from pathlib import Path
from typing import Annotated

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json
from archtool.errors import InputError

app = new_app()


@app.command("report", epilog=examples("archtool report runs/prune-vit-1a2b3c4d", "archtool report DIR --json"))
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check that it can be drawn; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Write the report of a run directory again."""
    if not (folder / "result.json").is_file():
        hint = "give the folder that --out named; a run writes result.json when it is done"
        raise InputError(f"{folder} is not a finished run", hint)
    from archtool.report import read_report, write_report
    from archtool.run.hooks import plugin_panels

    found = read_report(folder)
    if not dry_run:
        write_report(found, folder, plugin_panels())
    made = [path for path in sorted(folder.glob("report.*")) if path.is_file()]
    if json:
        emit_json({"files": [str(path) for path in made]})
        return
    for path in made:
        emit(str(path))
