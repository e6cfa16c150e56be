"""``archtool build``: a published architecture, randomly initialised, as a model folder; or the list of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json, emit_table
from archtool.errors import UsageError

app = new_app()

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="A shipped architecture, or a YAML file of one.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="The model folder to write.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one of its settings.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the weights.")]
Listing = Annotated[bool, typer.Option("--list", help="List what ships with archtool.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show its layers, parameters and MACs; write nothing.")]
Length = Annotated[int, typer.Option("--length", min=1, help="Tokens per sequence that MACs are counted for.")]


@app.command(
    "build",
    epilog=examples(
        "archtool build cct-2-3x2-cifar10 --out cct", "archtool build vit-digits --set hidden_size=32 --dry-run"
    ),
)
def build(
    name: Name = None, out: Out = None, seed: Seed = 0, sets: Sets = None, listing: Listing = False,
    dry_run: DryRun = False, force: Force = False, length: Length = 64, json: Json = False,
) -> None:  # fmt: skip
    """Write a published architecture with random weights, and check its parameters against the published number."""
    if name is None or listing:
        _list(json)
        return
    if out is None and not dry_run:
        raise UsageError("build needs a place to write to", "Give --out DIR, or --dry-run to see what it would be.")
    from archtool.config.preset import architecture, read_preset
    from archtool.export.model import export_model
    from archtool.model.inspect import summary
    from archtool.model.preset import blank, initialised

    preset, document = read_preset(name, sets or ())
    arch, config = architecture(preset, document)
    found = summary(blank(arch, config), length)
    found["states"] = preset.states.model_dump() if preset.states else None
    found |= {"name": name, "seed": seed, "folder": None, "dialect": None}
    if not dry_run:
        assert out is not None
        exported = export_model(initialised(arch, config, seed), out, force=force)
        found |= {"folder": str(out), "dialect": exported.dialect}
    emit_json(found) if json else _show(found)


def _show(found: dict[str, Any]) -> None:
    from archtool.cli.commands.inspect import show_summary

    show_summary(found)
    if found["states"]:
        said = found["states"]
        macs = f" and {said['macs']} MACs" if said["macs"] else ""
        emit(f"stated: {said['parameters']} parameters{macs} ({said['source']})")
    if found["folder"]:
        emit(f"model: {found['folder']} ({found['dialect']})")


def preset_rows() -> list[dict[str, Any]]:
    """Every shipped architecture: its name, what makes it, its stated parameters, its summary."""
    from archtool.config.preset import read_preset, shipped_presets
    from archtool.config.shipped import recipe_summary

    rows = []
    for name, path in shipped_presets().items():
        preset, _ = read_preset(str(path))
        stated = preset.states.model_dump() if preset.states else None
        rows.append({"name": name, "maker": preset.maker, "states": stated, "summary": recipe_summary(path)})
    return rows


def _list(json: bool) -> None:
    rows = preset_rows()
    if json:
        emit_json(rows)
        return
    shown = [(r["name"], str(r["states"]["parameters"]) if r["states"] else "-", r["summary"]) for r in rows]
    emit_table(("architecture", "stated parameters", "what it is"), shown)
