"""Writes ``docs/commands/``: one page per command, from the command line itself.

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

FOLDER = Path(__file__).resolve().parent / "commands"
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
    lines = [plain(line) for line in (command.epilog or "").split("\n\n")[1:]]
    if lines:
        yield "```text\n" + "\n".join(lines) + "\n```"


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


def main(argv: list[str]) -> int:
    """Write or check."""
    made = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    if argv == ["--check"]:
        stale = sorted(name for name in {*made, *there} if made.get(name) != there.get(name))
        sys.stdout.write("".join(f"{name} is not current: run python docs/generate.py\n" for name in stale))
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name in there.keys() - made.keys():
        (FOLDER / name).unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
