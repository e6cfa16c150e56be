"""``results.json``: claim → its last row, read and written whole."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claims import CLAIMS, Claim
from common import HERE, ROOT

RESULTS = HERE / "results.json"
Row = dict[str, Any]


def read_results(path: Path = RESULTS) -> dict[str, Row]:
    """All rows; none where there is no file yet."""
    found: dict[str, Row] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write_results(rows: Mapping[str, Row], path: Path = RESULTS) -> None:
    """Write rows in the order of the claims, so that a crash leaves the old file or the new one.

    Rows of claims that no longer exist are left out.
    """
    ordered = {claim.id: rows[claim.id] for claim in CLAIMS if claim.id in rows}
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def merged(old: Mapping[str, Row], new: Mapping[str, Row]) -> dict[str, Row]:
    """New rows over old ones; a quick stand-in never replaces a full measurement."""
    kept = {name for name, row in new.items() if row["mode"] == "quick" and old.get(name, {}).get("mode") == "full"}
    return {**old, **{name: row for name, row in new.items() if name not in kept}}


def row_of(claim: Claim, printed: Mapping[str, Any], about: Mapping[str, Any]) -> Row:
    """The row of a claim: what was printed, whether it passes, and ``about`` the run (commit, machine, …).

    A failed row has an ``error`` and no value; a skipped one says why and neither passes nor fails.
    """
    value = printed.get("value")
    row: Row = {
        "command": f"python benchmarks/{claim.command.file}",
        "goal": claim.goal,
        "value": value,
        "pass": claim.passes(value) if value is not None else None if "skipped" in printed else False,
        "spread": printed.get("spread"),
        "seeds": printed.get("seeds", 1),
        **about,
    }
    return row | {key: printed[key] for key in ("skipped", "error", "note") if key in printed}


def commit() -> str:
    """The short hash of the checkout, with ``+`` where the product's own files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "archtool", "recipes", "search_spaces")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def machine() -> str:
    """Processor, cores and versions of this machine in one line."""
    from importlib.metadata import version

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, Python {platform.python_version()}, torch {version('torch')}"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
