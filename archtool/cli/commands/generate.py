"""``archtool generate``: what a model writes."""

from typing import Annotated

import typer

from archtool.cli.flags import Json, examples, new_app
from archtool.cli.output import emit, emit_json

app = new_app()

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder, file or hub id.", show_default=False)]
Texts = Annotated[list[str], typer.Argument(metavar="TEXT", help="Texts to continue or to translate.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Tokens at most.")]
Prefix = Annotated[str, typer.Option("--prefix", help="Put before each text, as T5's tasks want it.")]
Names = Annotated[str | None, typer.Option("--names", help="A table of the checkpoint's own tensor names.")]


@app.command(
    "generate",
    epilog=examples(
        "archtool generate my-llama 'Once upon a time' --steps 50",
        "archtool generate flan-t5-small 'How old are you?' --prefix 'translate English to German: ' --json",
    ),
)
def generate(
    model: Model, text: Texts, steps: Steps = 100, prefix: Prefix = "", names: Names = None, json: Json = False
) -> None:
    """Write a model's greedy output for each text: its continuation, or its translation."""
    import archtool
    from archtool.run.texts import written

    found = written(archtool.load(model, names), text, steps, prefix)
    if json:
        emit_json([{"text": given, "output": out} for given, out in zip(text, found, strict=True)])
    else:
        for out in found:
            emit(out)
