"""Does the exported model compute what the one in memory computed? Reload it in a fresh process and compare.

`record` keeps inputs and expected outputs beside the model; `verify` repeats them at any time, without archtool
in the process. Where the attention mask is 0, outputs mean nothing and are not compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.folder import read_json
from archtool.data.positions import by_position
from archtool.errors import InputError, MismatchError
from archtool.export.model import ONNX_NAME, Exported
from archtool.export.reference import reference_inputs
from archtool.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "verify.json"
TENSORS = "verify.safetensors"
TOLERANCE = 1e-5
TIMEOUT_S = 900


@dataclass(frozen=True)
class Verification:
    """What a comparison found.

    Attributes:
        dialect / runtime: what was loaded, and by what.
        max_abs_diff: largest difference over the outputs compared.
        tolerance: what it may be: this times the largest value of an output where that is above 1.
        outputs: (name, difference, largest expected value) per output.
        skipped: recorded outputs that the loaded class does not give.
        error: why it did not load or run, if so.
    """

    dialect: str
    runtime: str
    max_abs_diff: float
    tolerance: float
    outputs: tuple[tuple[str, float, float], ...]
    skipped: tuple[str, ...] = ()
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance."""
        return bool(self.outputs) and all(d <= self.tolerance * max(1.0, top) for _, d, top in self.outputs)


def record(checkpoint: Checkpoint, exported: Exported, folder: Path, seed: int = 0) -> Path:
    """Keep inputs and the in-memory model's outputs in ``folder``; returns the path of ``verify.json``."""
    import torch
    from safetensors.torch import save_file

    inputs = reference_inputs(checkpoint.architecture, seed)
    with torch.inference_mode():
        outputs = checkpoint.module()(**inputs)
    tensors = {f"inputs.{k}": v for k, v in inputs.items()} | {f"outputs.{k}": v for k, v in outputs.items()}
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, folder / TENSORS)
    runtimes = ["native" if exported.dialect == "native" else "transformers"]
    runtimes += ["onnxruntime"] if ONNX_NAME in exported.files else []
    facts = {
        "model": os.path.relpath(exported.folder, folder), "dialect": exported.dialect, "runtimes": runtimes,
        "tolerance": TOLERANCE, "seed": seed,
    }  # fmt: skip
    (folder / RECORD).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder / RECORD


def verify(folder: Path) -> tuple[Verification, ...]:
    """Reload and compare one run folder, in every runtime that its record names.

    Raises:
        MismatchError: an output differs by more than the tolerance, or the model does not load.
    """
    return checked(folder, verify_all([folder])[folder])


def checked(folder: Path, found: tuple[Verification, ...]) -> tuple[Verification, ...]:
    """What was found, if all of it passed; else `MismatchError`."""
    for verification in found:
        if not verification.passed:
            raise MismatchError(_message(folder, verification), "Do not use this model; export it again.")
    return found


def verify_all(folders: Sequence[Path]) -> dict[Path, tuple[Verification, ...]]:
    """Compare several run folders in one fresh process (two, where native dialects are among them)."""
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [job for folder in folders for job in _jobs(folder, Path(scratch))]
        for native in (False, True):
            _run([job for job in jobs if (job["runtime"] == "native") == native], Path(scratch))
        return {f: tuple(_compared(job) for job in jobs if job["run"] == str(f)) for f in folders}


def _jobs(folder: Path, scratch: Path) -> list[dict[str, str]]:
    facts = read_json(folder / RECORD)
    if not (folder / TENSORS).is_file():
        raise InputError(f"{folder / TENSORS} is missing.", "Export the model again.")
    jobs = []
    for runtime in facts["runtimes"]:
        stem = scratch / f"{len(os.listdir(scratch))}-{runtime}"
        job = {"run": str(folder), "folder": str((folder / facts["model"]).resolve()), "runtime": runtime}
        job |= {k: f"{stem}.{k}" for k in ("inputs", "outputs", "report")}
        _write_inputs(folder, Path(job["inputs"]))
        jobs.append({**job, "package": str(Path(__file__).resolve().parents[2])})
    return jobs


def _recorded(folder: Path, which: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(folder / TENSORS)
    return {name.removeprefix(which): t for name, t in tensors.items() if name.startswith(which)}


def _write_inputs(folder: Path, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(_recorded(folder, "inputs."), path)


def _run(jobs: Sequence[Mapping[str, str]], scratch: Path) -> None:
    """Run jobs in an isolated interpreter: no PYTHONPATH, no user site, code cache of its own, no network."""
    if not jobs:
        return
    listing = scratch / "jobs.json"
    listing.write_text(json.dumps(jobs), encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    script = Path(__file__).with_name("fresh.py")
    command = [sys.executable, "-I", str(script), str(listing)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MismatchError(f"the fresh process ended with {done.returncode}: {last}", "Is transformers installed?")


def _compared(job: Mapping[str, str]) -> Verification:
    from safetensors.torch import load_file

    folder = Path(job["run"])
    facts, report = read_json(folder / RECORD), read_json(Path(job["report"]))
    tolerance = float(facts["tolerance"])
    error = report["error"]
    if not error and report["modules"] and job["runtime"] != "native":
        error = f"archtool was imported in the fresh process: {', '.join(report['modules'])}"
    if error:
        return Verification(facts["dialect"], job["runtime"], float("inf"), tolerance, (), (), error)
    expected, got = _recorded(folder, "outputs."), load_file(job["outputs"])
    mask = _recorded(folder, "inputs.").get("attention_mask")
    rows = tuple((n, *_difference(expected[n], got[n], mask)) for n in sorted(set(expected) & set(got)))
    worst = max((row[1] for row in rows), default=float("inf"))
    skipped = tuple(sorted(set(expected) - set(got)))
    return Verification(facts["dialect"], job["runtime"], worst, tolerance, rows, skipped)


def _difference(expected: Tensor, got: Tensor, mask: Any) -> tuple[float, float]:
    """Largest absolute difference and largest expected value, where the mask is 1.

    Some classes give features of tokens (B, H × W, C) as images (B, C, H, W).
    """
    got = by_position(got) if expected.dim() == 3 else got
    if expected.shape != got.shape:
        return float("inf"), 0.0
    if mask is not None and expected.dim() == 3 and expected.shape[:2] == mask.shape:
        expected, got = expected[mask.bool()], got[mask.bool()]
    gap = (expected.double() - got.double()).abs()
    return float(gap.nan_to_num(nan=float("inf")).max()), float(expected.abs().max())


def _message(folder: Path, v: Verification) -> str:
    if v.error:
        return f"{folder}: the model does not run in {v.runtime}: {v.error}"
    if not v.outputs:
        return f"{folder}: {v.runtime} gives none of the recorded outputs ({', '.join(v.skipped)})"
    name, gap, top = max(v.outputs, key=lambda row: row[1])
    limit = v.tolerance * max(1.0, top)
    return f"{folder}: {name} differs by {gap:.3g} in {v.runtime} ({v.dialect} dialect); {limit:.3g} is allowed"
