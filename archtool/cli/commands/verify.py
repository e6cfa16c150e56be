"""``archtool verify``: does a written model still compute what the model in memory computed?"""

from pathlib import Path
from typing import Annotated

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit_json, emit_table
from archtool.errors import InputError, MismatchError

app = new_app()


@app.command("verify", epilog=examples("archtool verify runs/prune-vit-1a2b3c4d", "archtool verify DIR --json"))
def verify(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")], json: Json = False) -> None:
    """Reload a run's model in a fresh process without archtool and compare its outputs (exit 8 if they differ)."""
    if not (folder / "verify.json").is_file():
        raise InputError(f"{folder} holds no verify.json", "Give the run directory, the folder that --out named.")
    from dataclasses import asdict

    from archtool.export.verify import verify_all

    found = verify_all([folder])[folder]
    if json:
        emit_json([{**asdict(v), "passed": v.passed} for v in found])
    else:
        rows = [
            (v.runtime, v.dialect, name, f"{difference:.3g}", f"{v.tolerance * max(1.0, top):.3g}")
            for v in found for name, difference, top in v.outputs
        ]  # fmt: skip
        emit_table(("loaded by", "dialect", "output", "max difference", "tolerance"), rows)
    for v in found:
        if not v.passed:
            why = v.error or f"an output differs by {v.max_abs_diff:.3g}"
            raise MismatchError(f"{folder}, loaded by {v.runtime}: {why}", "Do not use this model; export it again.")
