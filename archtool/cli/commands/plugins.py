"""``archtool plugins``: everything that is registered, and what does not load."""

from typing import Annotated, Any

import typer

from archtool import registry
from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit_json, emit_table

app = new_app()


def plugin_rows(builtins: bool) -> list[dict[str, Any]]:
    """Every entry with its package and status; plugins are imported to see whether they load."""
    rows = []
    for kind in registry.GROUPS:
        clashes = registry.duplicates(kind)
        for name, entry in sorted(registry.entries(kind).items()):
            own = entry.package == "archtool"
            if own and not builtins and name not in clashes:
                continue
            problem = clashes[name].what if name in clashes else "" if own else entry.error()
            rows.append({"kind": kind, "name": name, "package": entry.package, "error": problem})
    return rows


@app.command("plugins", epilog=examples("archtool plugins", "archtool plugins --installed --json"))
def plugins(
    installed: Annotated[bool, typer.Option("--installed", help="Leave out what ships with archtool.")] = False,
    json: Json = False,
) -> None:
    """List everything that is registered; broken plugins stand there with their error."""
    rows = plugin_rows(builtins=not installed)
    if json:
        emit_json(rows)
        return
    shown = [(r["kind"], r["name"], r["package"], f"broken: {r['error']}" if r["error"] else "ok") for r in rows]
    emit_table(("kind", "name", "package", "status"), shown)
