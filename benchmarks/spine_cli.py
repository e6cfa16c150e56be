"""Item 6: ``--help`` and completion are quick and import no torch; what every command's help has.

python benchmarks/spine_cli.py
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from common import arguments, emit, environment, process

ROUNDS = 7
HELP = ("--help",)
COMPLETION = {"_ARCHTOOL_COMPLETE": "complete_bash", "COMP_WORDS": "archtool pr", "COMP_CWORD": "1"}
WRITE_WITHOUT_OUT = ("report", "recipes cp")
"""Commands that write although they have no ``--out``."""


def main() -> None:
    """Print every claim."""
    arguments(__doc__).parse_args()
    measure("help", HELP, {}, "prune")
    measure("completion", (), COMPLETION, "prune")
    found = list(leaves())
    count("commands_without_json", [name for name, c in found if "--json" not in flags(c)], len(found))
    writing = [(name, c) for name, c in found if "--out" in flags(c) or name in WRITE_WITHOUT_OUT]
    missing = [name for name, c in writing if "--dry-run" not in flags(c)]
    count("writing_commands_without_dry_run", missing, len(writing))
    few = [name for name, c in found if len(re.findall(r"^archtool ", c.epilog or "", re.MULTILINE)) < 2]
    count("commands_without_two_examples", few, len(found))


def measure(what: str, words: Sequence[str], env: dict[str, str], expected: str) -> None:
    """Median seconds over processes, and whether torch is among what is imported."""
    command = [sys.executable, "-m", "archtool", *words]
    runs = [process(command, env=environment(**env)) for _ in range(ROUNDS)]
    if any(run.code or expected not in run.stdout for run in runs):
        raise RuntimeError(f"{what} failed: {runs[0].stderr.strip()[-300:]}")
    seconds = [run.seconds for run in runs]
    spread = round(max(seconds) - min(seconds), 3)
    emit(
        f"spine.6.{what}_seconds",
        round(statistics.median(seconds), 3),
        spread=spread,
        note=f"{ROUNDS} rounds",
    )
    listed = process(command, env=environment(**env, PYTHONPROFILEIMPORTTIME="1")).stderr
    emit(f"spine.6.{what}_imports_torch", int(re.search(r"\|\s+torch$", listed, re.MULTILINE) is not None))


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command by its full name; groups are opened."""
    from archtool.cli.app import root

    def walk(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name in group.list_commands(None):
            command = group.get_command(None, name)
            if hasattr(command, "list_commands"):
                yield from walk(f"{prefix}{name} ", command)
            else:
                yield f"{prefix}{name}", command

    return walk("", root())


def flags(command: Any) -> set[str]:
    """All spellings of a command's flags."""
    return {flag for parameter in command.params for flag in parameter.opts}


def count(claim: str, missing: Sequence[str], total: int) -> None:
    """How many commands miss something, and which."""
    emit(f"spine.6.{claim}", len(missing), note=f"of {total}" + (f": {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
