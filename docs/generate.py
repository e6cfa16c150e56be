"""Writes ``docs/commands/``, a page per command from the command line itself, and ``docs/operators.md``.

``python docs/generate.py`` writes the pages; ``--check`` only compares and exits with 1 where they differ.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archtool import registry
from archtool.cli.app import build, summaries
from archtool.cli.verbs import on_command_line

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS / "commands"
CODES = (
    "0 done · 1 bug · 2 usage · 3 recipe · 4 model or data · 5 resources · 6 budget · 7 quality gate · "
    "8 output differs · 130 interrupted"
)


VALUES = {"int": "INTEGER", "float": "NUMBER", "Path": "PATH"}


def shipped() -> list[str]:
    """The commands that come with archtool, in the order of the help."""
    steps = registry.entries("steps")
    return [name for name in summaries() if name not in steps or steps[name].package == "archtool"]


def pages() -> dict[str, str]:
    """File name → text."""
    made = {f"{name}.md": page(name, build(name)) for name in shipped()}
    rows = "\n".join(f"| [{name}]({name}.md) | {summaries()[name][0]} |" for name in shipped())
    made["README.md"] = f"# Commands\n\n| command | what it does |\n|---|---|\n{rows}\n\nExit codes: {CODES}.\n"
    return made


def page(name: str, command: Any) -> str:
    """One command, with its sub-commands where it has any."""
    subs = getattr(command, "commands", {})
    said = [f"# archtool {name}", plain(command.help or summaries()[name][0])]
    if subs:
        for sub, inner in subs.items():
            said += [f"## archtool {name} {sub}", plain(inner.help or ""), *body(f"{name} {sub}", inner)]
    else:
        said += body(name, command)
    return "\n\n".join([*said, f"Exit codes: {CODES}."]) + "\n"


def body(name: str, command: Any) -> Iterator[str]:
    """Usage, flags and examples."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = [p.metavar or p.name.upper() for p in arguments]
    words = [w if p.required or w.startswith("[") else f"[{w}]" for p, w in zip(arguments, words, strict=True)]
    yield f"```text\narchtool {' '.join([name, *words])} [OPTIONS]\n```"
    rows = [flag_row(p) for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if rows:
        yield "\n".join(["| flag | meaning |", "|---|---|", *rows])
    if only := recipe_rows(name):
        yield "In recipes and with `--set` also:"
        yield "\n".join(["| option | meaning |", "|---|---|", *only])
    lines = [plain(line) for line in (command.epilog or "").split("\n\n")[1:]]
    if lines:
        yield "```text\n" + "\n".join(lines) + "\n```"


def recipe_rows(name: str) -> list[str]:
    """The options of a step that no flag says: mappings."""
    fields = registry.load("steps", name).Options.model_fields if name in registry.entries("steps") else {}
    return [
        f"| `{field}` | {escaped(info.description or '')} |"
        for field, info in fields.items()
        if not on_command_line(info)
    ]


def flag_row(option: Any) -> str:
    """One flag of the table."""
    names = " / ".join([*option.opts, *option.secondary_opts])
    kind = getattr(option.type_descriptor.annotation, "__name__", "")
    value = "" if option.is_flag else f" {option.metavar or VALUES.get(kind, 'TEXT')}"
    repeated = " (may be repeated)" if option.multiple else ""
    return f"| `{escaped(names + value)}` | {escaped(plain(option.help or '') + repeated)} |"


def escaped(text: str) -> str:
    """Text as a cell of a table."""
    return text.replace("|", "\\|")


def plain(text: str) -> str:
    """Text without the markup of the terminal."""
    return re.sub(r"\\\[", "[", re.sub(r"(?<!\\)\[/?bold\]", "", text)).strip()


def operators_page() -> str:
    """The operators with what they take, and the table of techniques, from the registry and the results."""
    from archtool.cli.commands.operators import operator_rows, said_axes, said_steps
    from archtool.transforms.legality import TECHNIQUES, legality

    rows = [row for row in operator_rows() if row["package"] == "archtool"]
    listed = [
        (f"`{r['kind']}`", said_papers(r["papers"]), r["cost"], said_axes(r["axes"]), "; ".join(r["constraints"]),
         said_steps(r["checked"]), r["summary"])
        for r in rows
    ]  # fmt: skip
    heads = ("operator", "papers", "multiply-adds", "axes (exact edits)", "needs", "checked", "what it is")
    verdicts = {r["kind"]: legality(registry.load(r["group"], r["kind"]).samples(), r["kind"]) for r in rows
                if r["group"] == "operators"}  # fmt: skip
    techniques = [(f"`{kind}`", *(found[name] for name in TECHNIQUES)) for kind, found in verdicts.items()]
    return "\n\n".join((
        "# Operators",
        "What architectures are made of, as `archtool operators` prints it. T is tokens, D the width of the stream. "
        "The column *checked* is measured by `python benchmarks/field_operators.py`: steps that a model with the "
        "operator passed through generic code (`export` is the remote dialect in a fresh process). Rows of norms, "
        "positions and topologies say how something is said without an operator of its own.",
        table(heads, listed),
        "## Technique by operator",
        "Found by trying each technique on the operator's own sample models; anything but *yes* is the refusal's "
        "message. `-`: there is nothing to apply it to.",
        table(("operator", *TECHNIQUES), techniques),
    )) + "\n"  # fmt: skip


def said_papers(papers: list[int]) -> str:
    """How many papers, and the first of them."""
    return f"{len(papers)}: {', '.join(map(str, papers[:6]))}{', …' if len(papers) > 6 else ''}" if papers else ""


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *(tuple(escaped(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: list[str]) -> int:
    """Write or check."""
    made = {FOLDER / name: text for name, text in pages().items()} | {DOCS / "operators.md": operators_page()}
    there = {path: path.read_text(encoding="utf-8") for path in (*FOLDER.glob("*.md"), *DOCS.glob("operators.md"))}
    if argv == ["--check"]:
        stale = sorted(path.name for path in {*made, *there} if made.get(path) != there.get(path))
        sys.stdout.write("".join(f"{name} is not current: run python docs/generate.py\n" for name in stale))
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in there.keys() - made.keys():
        path.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
