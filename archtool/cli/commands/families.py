"""``archtool families``: which checkpoints can be read and written."""

from typing import Any

from archtool import registry
from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit_json, emit_table
from archtool.errors import ArchtoolError

app = new_app()


def family_rows() -> list[dict[str, Any]]:
    """Every family with the ``model_type`` values it reads; a broken plugin stands there with its error."""
    return [_row(entry) for _, entry in sorted(registry.entries("families").items())]


def _row(entry: registry.Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "package": entry.package, "model_types": [], "summary": "", "error": ""}
    try:
        found = entry.load()
    except ArchtoolError as problem:
        return row | {"error": problem.what}
    summary = entry.summary or registry.first_line(found.__doc__)
    return row | {"model_types": list(found.model_types), "summary": summary}


@app.command("families", epilog=examples("archtool families", "archtool families --json"))
def families(json: Json = False) -> None:
    """List the model families: what is read, written and exported."""
    rows = family_rows()
    if json:
        emit_json(rows)
        return
    shown = [(r["name"], ", ".join(r["model_types"]) or "-", r["error"] or r["summary"]) for r in rows]
    emit_table(("family", "model_type", "what it reads"), shown)
