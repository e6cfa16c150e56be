"""``archtool operators``: what architectures are made of, and which edits each axis takes."""

from typing import Any

from archtool import registry
from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit_json, emit_table
from archtool.errors import ArchtoolError
from archtool.ir.operator import Operator

app = new_app()


def operator_rows() -> list[dict[str, Any]]:
    """Every operator with its papers and local axes; a broken plugin stands there with its error."""
    return [_row(entry) for _, entry in sorted(registry.entries("operators").items())]


def _row(entry: registry.Entry) -> dict[str, Any]:
    row = {"kind": entry.name, "package": entry.package, "summary": "", "papers": [], "axes": {}, "error": ""}
    try:
        found = entry.load()
    except ArchtoolError as problem:
        return row | {"error": problem.what}
    if not (isinstance(found, type) and issubclass(found, Operator)):
        return row | {"error": f"{entry.target} is not an operator"}
    summary = entry.summary or registry.first_line(found.__doc__)
    axes = {axis: sorted(edits) for axis, edits in found.local_axes.items()}
    return row | {"summary": summary, "papers": list(found.papers), "axes": axes}


@app.command("operators", epilog=examples("archtool operators", "archtool operators --json"))
def operators(json: Json = False) -> None:
    """List the operators with their axes; the edits that are exact on an axis stand behind it."""
    rows = operator_rows()
    if json:
        emit_json(rows)
        return
    emit_table(
        ("operator", "papers", "axes", "what it is"),
        [(r["kind"], str(len(r["papers"])), _axes(r["axes"]), r["error"] or r["summary"]) for r in rows],
    )


def _axes(axes: dict[str, list[str]]) -> str:
    said = (f"{axis} ({', '.join(edits)})" if edits else f"{axis} (fixed)" for axis, edits in axes.items())
    return "; ".join(said) or "-"
