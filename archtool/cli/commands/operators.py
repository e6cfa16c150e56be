"""``archtool operators``: what architectures are made of, what each takes, and what was checked."""

import json as json_format
from pathlib import Path
from typing import Any

from archtool import registry
from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit_json, emit_table
from archtool.config.shipped import shipped_folder
from archtool.errors import ArchtoolError
from archtool.ir.operator import Operator

app = new_app()

CLAIM = "field.operator."
GROUPS = ("operators", "constructs")


def operator_rows() -> list[dict[str, Any]]:
    """Every operator and construct with its facts and its measured journey; a broken plugin shows its error."""
    measured = measured_steps()
    found = [(group, entry) for group in GROUPS for _, entry in sorted(registry.entries(group).items())]
    return [_row(group, entry) | {"checked": measured.get(entry.name, {})} for group, entry in found]


def measured_steps() -> dict[str, dict[str, str]]:
    """Kind → step (prune, int8, …) → what ``benchmarks/field_operators.py`` found, from the shipped results."""
    path: Path = shipped_folder("benchmarks") / "results.json"
    rows = json_format.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    claims = {claim.removeprefix(CLAIM): row for claim, row in rows.items() if claim.startswith(CLAIM)}
    return {kind: dict(_steps(row.get("note", ""))) for kind, row in claims.items()}


def _steps(note: str) -> list[tuple[str, str]]:
    pairs = (part.partition(" ") for part in note.split("; ") if part)
    return [(name, found) for name, _, found in pairs]


def _row(group: str, entry: registry.Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": entry.name, "group": group, "package": entry.package, "summary": "", "papers": [], "cost": "",
        "axes": {}, "constraints": [], "error": "",
    }  # fmt: skip
    try:
        found = entry.load()
    except ArchtoolError as problem:
        return row | {"error": problem.what}
    summary = entry.summary or registry.first_line(found.__doc__)
    if group == "constructs":
        return row | {"summary": f"{summary}: {found.said}", "papers": list(found.papers)}
    if not (isinstance(found, type) and issubclass(found, Operator)):
        return row | {"error": f"{entry.target} is not an operator"}
    axes = {axis: sorted(edits) for axis, edits in found.local_axes.items()}
    facts = {"cost": found.cost_form, "axes": axes, "constraints": list(found.constraints)}
    return row | {"summary": summary, "papers": list(found.papers), **facts}


@app.command("operators", epilog=examples("archtool operators", "archtool operators --json"))
def operators(json: Json = False) -> None:
    """List the operators: papers, cost, axes with the edits that are exact on them, and what was checked."""
    rows = operator_rows()
    if json:
        emit_json(rows)
        return
    emit_table(
        ("operator", "papers", "multiply-adds", "axes and edits", "checked", "what it is"),
        [
            (r["kind"], str(len(r["papers"])), r["cost"], said_axes(r["axes"]), said_steps(r["checked"]), _about(r))
            for r in rows
        ],
    )


def said_axes(axes: dict[str, list[str]]) -> str:
    """The axes of an operator, each with its exact edits."""
    said = (f"{axis} ({', '.join(edits)})" if edits else f"{axis} (fixed)" for axis, edits in axes.items())
    return "; ".join(said) or "-"


def said_steps(checked: dict[str, str]) -> str:
    """The steps that a model with the operator passed, and those it did not."""
    if not checked:
        return "not measured"
    failed = [name for name, found in checked.items() if found.startswith("no:")]
    passed = [name for name in checked if name not in failed]
    return " ".join(passed) + "".join(f", no {name}" for name in failed)


def _about(row: dict[str, Any]) -> str:
    limits = "; ".join(row["constraints"])
    return row["error"] or row["summary"] + (f" ({limits})" if limits else "")
