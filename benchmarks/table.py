"""``docs/benchmarks.md`` from ``results.json``: every claim with its goal, its value and how to repeat it.

python benchmarks/table.py            write the page
python benchmarks/table.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

from claims import CLAIMS, Claim, claims_of, commands
from common import ROOT
from results import Row, read_results
from run import number

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python benchmarks/table.py` from `benchmarks/results.json`; do not edit. `python benchmarks/run.py`
measures everything again (`--list` shows what there is, `--quick` takes the short forms, `--resume` continues).
"""


def page(rows: Mapping[str, Row]) -> str:
    """The whole page."""
    lines = [HEAD, _summary(rows), ""]
    for command in commands():
        lines += [f"## `{command.file}`", "", _about(rows, claims_of(command)), ""]
        lines += ["| claim | goal | value | spread | result |", "|---|---|---|---|---|"]
        lines += [_line(claim, rows.get(claim.id)) for claim in claims_of(command)]
        lines.append("")
    lines += ["## Machines", "", *_machines(rows)]
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: Mapping[str, Row]) -> str:
    results = [verdict(rows.get(claim.id)) for claim in CLAIMS]
    counted = {name: results.count(name) for name in dict.fromkeys(results)}
    return f"{len(CLAIMS)} claims: " + ", ".join(f"{n} {name}" for name, n in counted.items()) + "."


def _about(rows: Mapping[str, Row], claims: Sequence[Claim]) -> str:
    command = claims[0].command
    row = rows.get(claims[0].id)
    cost = f"About {command.core_hours:g} core-hours in full."
    if row is None:
        return f"{cost} Not run yet."
    return f"{cost} Last run: {row['mode']} form, {row['seconds']:g} s, commit `{row['commit']}`."


def _line(claim: Claim, row: Row | None) -> str:
    value, spread = (number(row[key]) if row else "" for key in ("value", "spread"))
    why = (row or {}).get("error") or (row or {}).get("skipped") or (row or {}).get("note") or ""
    result = verdict(row) + (f": {why}" if why else "")
    cells = (f"`{claim.id}`", claim.goal, value, spread, result)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def verdict(row: Row | None) -> str:
    """One word for a row; a stand-in's value says so."""
    if row is None:
        return "missing"
    if row["pass"] is None:
        return "skipped" if "skipped" in row else "reported"
    return ("pass" if row["pass"] else "FAIL") + (" (quick form)" if row["mode"] == "quick" else "")


def _machines(rows: Mapping[str, Row]) -> Iterator[str]:
    for machine in dict.fromkeys(row["machine"] for row in rows.values()):
        yield f"- {machine}"


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = page(read_results())
    if parser.parse_args().check:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
