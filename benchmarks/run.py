"""Runs the benchmark commands and keeps their numbers in ``results.json``.

    python benchmarks/run.py --list
    python benchmarks/run.py --quick                      every command in its short form
    python benchmarks/run.py --only 'spine.3.*' --resume  what has no good row of this commit yet

A command that fails gives failed rows with its error; nothing is dropped. Exit 1 where a claim is not met.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from claims import CLAIMS, Claim, Command, claims_of, commands
from common import HERE, ROOT, environment
from results import RESULTS, Row, commit, machine, merged, read_results, row_of, write_results

Printed = dict[str, dict[str, Any]]


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    asked = arguments(words)
    chosen = [c for c in commands() if any(fnmatchcase(claim.id, asked.only) for claim in claims_of(c))]
    if asked.list:
        show_list(chosen)
        return 0
    if not chosen:
        print(f"no claim matches {asked.only!r}; --list shows them", file=sys.stderr)
        return 2
    met = True
    for command in chosen:
        if asked.resume and is_done(command, read_results(asked.results), commit(), asked.quick):
            print(f"{command.file}: done at this commit", file=sys.stderr)
            continue
        rows = measured(command, asked.quick)
        write_results(merged(read_results(asked.results), rows), asked.results)
        met = show(rows) and met
    return 0 if met else 1


def measured(command: Command, quick: bool) -> dict[str, Row]:
    """Run one command; a row for each of its claims, whatever happens."""
    begun = time.perf_counter()
    printed, error = output_of(command, quick)
    mode = "quick" if quick and command.quick else "full"
    seconds = round(time.perf_counter() - begun, 1)
    about = {"seconds": seconds, "commit": commit(), "machine": machine(), "mode": mode}
    missing = {"error": error or "the command did not print this claim"}
    return {c.id: row_of(c, named(printed, c) or missing, about) for c in claims_of(command)}


def output_of(command: Command, quick: bool) -> tuple[Printed, str]:
    """What a command printed by name, and why it failed, if so. Its stderr goes where ours goes, line by line."""
    words = [sys.executable, str(HERE / command.file), *(["--quick"] if quick else [])]
    started = subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stderr = ""
    with ThreadPoolExecutor(1) as reader:
        stdout = reader.submit(_all, started.stdout)
        for line in started.stderr or ():
            sys.stderr.write(line)
            stderr = line.strip() or stderr
    said, code = stdout.result(), started.wait()
    last = stderr or (said.strip().splitlines() or ["no message"])[-1]
    return printed_claims(said.splitlines()), f"exit {code}: {last}" if code else ""


def _all(stream: IO[str] | None) -> str:
    return stream.read() if stream else ""


def printed_claims(lines: Iterable[str]) -> Printed:
    """The JSON lines that name a claim; other output is for people."""
    found: Printed = {}
    for line in lines:
        if line.startswith("{"):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and "claim" in row:
                found[str(row["claim"])] = row
    return found


def named(printed: Mapping[str, dict[str, Any]], claim: Claim) -> dict[str, Any] | None:
    """What was printed for a claim."""
    return next((row for name, row in printed.items() if claim.matches(name)), None)


def is_done(command: Command, rows: Mapping[str, Row], now: str, quick: bool) -> bool:
    """Whether every claim of a command has a row of this commit, without error, at least as full as asked for."""
    wanted = {"quick", "full"} if quick else {"full"}
    found = [rows.get(claim.id, {}) for claim in claims_of(command)]
    return all(r.get("commit") == now and "error" not in r and r.get("mode") in wanted for r in found)


def show(rows: Mapping[str, Row]) -> bool:
    """Print rows; whether none failed."""
    for name, row in rows.items():
        verdict = {True: "pass", False: "FAIL", None: "skipped" if "skipped" in row else "reported"}[row["pass"]]
        print(
            f"{verdict:9}{name:52}{number(row['value']):>14}  {row.get('error') or row.get('skipped') or row['goal']}"
        )
    return all(row["pass"] is not False for row in rows.values())


def number(value: float | None) -> str:
    """A value in at most 6 significant digits."""
    return "" if value is None else f"{value:.6g}"


def show_list(chosen: Sequence[Command]) -> None:
    """Print the commands with their costs and claims."""
    for command in chosen:
        short = "has a shorter --quick" if command.quick else "--quick is the same"
        print(f"{command.file}  about {command.core_hours:g} core-hours, {short}")
        for claim in claims_of(command):
            print(f"    {claim.id:52} {claim.goal}")
    print(f"{len(CLAIMS)} claims; {sum(c.core_hours for c in commands()):.1f} core-hours for all commands")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="show commands and claims, run nothing")
    parser.add_argument("--only", default="*", metavar="GLOB", help="commands with a claim of this name")
    parser.add_argument("--quick", action="store_true", help="each command's short form (under 10 minutes)")
    parser.add_argument("--resume", action="store_true", help="leave out commands done at this commit")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of rows")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
