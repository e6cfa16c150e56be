"""``archtool inspect``: what a checkpoint is, or what differs between two."""

from typing import Annotated, Any

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json, emit_table
from archtool.errors import UsageError

app = new_app()

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder, file or hub id.", show_default=False)]
Other = Annotated[str | None, typer.Argument(metavar="OTHER", help="With --diff: the model to compare with.")]
Diff = Annotated[bool, typer.Option("--diff", help="Show what differs from MODEL to OTHER.")]
Length = Annotated[int, typer.Option("--length", min=1, help="Tokens per sequence that MACs are counted for.")]
Names = Annotated[str | None, typer.Option("--names", help="A table of the checkpoint's own tensor names.")]


@app.command(
    "inspect", epilog=examples("archtool inspect MiniLM", "archtool inspect --diff MiniLM runs/prune-model-1a2b/model")
)
def inspect(
    model: Model, other: Other = None, diff: Diff = False, length: Length = 64, names: Names = None, json: Json = False
) -> None:
    """Show a checkpoint block by block, without loading a weight."""
    if diff != (other is not None):
        raise UsageError("--diff compares two models", "Write archtool inspect --diff A B.")
    if other is not None:
        _show_diff(_open(model, names), _open(other, None), json)
        return
    from archtool.model.inspect import summary

    found = summary(_open(model, names), length)
    if json:
        emit_json(found)
    else:
        show_summary(found)


def _open(model: str, names: str | None) -> Any:
    import archtool

    return archtool.load(model, names)


def show_summary(found: dict[str, Any]) -> None:
    """What `archtool.model.inspect.summary` gives, as a table."""
    rows = [
        (r["name"], r["operator"], _pairs(r["sizes"]), f"{r['parameters']:,}", f"{r['size_bytes']:,}",
         f"{r['bits']:.3g}" if r["parameters"] else "", f"{r['macs']:,}")
        for r in found["layers"]
    ]  # fmt: skip
    emit_table(("layer", "operator", "sizes", "parameters", "bytes", "bits", "MACs"), rows)
    emit(f"family: {found['family'] or '-'}   {_pairs(found['streams'])}   outputs: {', '.join(found['outputs'])}")
    emit(
        f"{found['parameters']:,} parameters, {found['size_bytes']:,} bytes ({found['bits']:.3g} bits each), "
        f"{found['macs']:,} MACs at {found['length']} tokens"
    )
    for key in ("carried", "ignored"):
        if found[key]:
            emit(f"{key}: {', '.join(found[key])}")
    if found["nesting"]:
        _show_nesting(found["nesting"])


def _show_nesting(found: dict[str, Any]) -> None:
    """Axes with the same sizes on one line."""
    by_sizes: dict[str, list[str]] = {}
    for axis, sizes in found["levels"]:
        by_sizes.setdefault(", ".join(map(str, sizes)), []).append(axis)
    for sizes, axes in by_sizes.items():
        emit(f"nested at {sizes}: {', '.join(axes)}")
    if found.get("depth"):
        emit(f"blocks that may be skipped, first to go first: {', '.join(found['depth'])}")


def _pairs(sizes: dict[str, int]) -> str:
    return " ".join(f"{name}={n}" for name, n in sizes.items())


def _show_diff(before: Any, after: Any, json: bool) -> None:
    from archtool.model.inspect import differences

    changes = differences(before, after)
    if json:
        emit_json(changes)
        return
    rows = [(c["what"], c["name"], _short(c["before"]), _short(c["after"])) for c in changes]
    emit_table(("what", "name", "before", "after"), rows) if rows else emit("no difference")


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 48 else text[:47] + "…"
