"""``archtool quickstart``: the shipped example, end to end, on data that is already on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from archtool.cli.flags import Common, Json, examples, new_app

app = new_app()


@app.command("quickstart", epilog=examples("archtool quickstart", "archtool quickstart --out first-run --json"))
def quickstart(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run directory.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its estimates; run nothing.")] = False,
    json: Json = False,
) -> None:
    """Train, extract, prune, quantize and export a small ViT on real digits, with a report (under 2 minutes)."""
    import sys

    from archtool.cli.runner import execute
    from archtool.config.load import read_recipe
    from archtool.config.shipped import find_recipe

    recipe = read_recipe(find_recipe("quickstart"))
    execute(recipe, Common(out=out, dry_run=dry_run, json=json), tuple(sys.argv))
