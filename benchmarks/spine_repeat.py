"""Item 7: the same seed gives the same tensors: run twice, and killed in the middle and resumed.

python benchmarks/spine_repeat.py
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Done, archtool, arguments, emit, environment

RECIPE = """model: {build: vit-digits}
data: {path: "sklearn:digits", split: test}
task: image-classification
threads: 1
steps:
  - train: {steps: 120, batch_size: 32, save_seconds: 0.2}
  - prune: {budget: params=0.8x, units: [ffn]}
  - quantize: {scheme: w8}
"""
WAIT_S = 300.0


def main() -> None:
    """Three runs, one of them killed with SIGKILL once its training has saved a state."""
    arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "recipe.yaml"
        recipe.write_text(RECIPE)
        whole = [run(recipe, Path(scratch) / f"whole-{i}") for i in range(2)]
        broken = Path(scratch) / "killed"
        kill_in_the_middle(recipe, broken)
        hashes = [done.json()["run"]["hash"] for done in (*whole, run(recipe, broken))]
    emit(
        "spine.7.distinct_hashes",
        len(set(hashes)),
        note=f"two whole runs and one killed and resumed: {hashes[0]}",
    )


def run(recipe: Path, out: Path) -> Done:
    """One run to its end."""
    return archtool("run", recipe, "--out", out, "--json", cwd=recipe.parent)


def kill_in_the_middle(recipe: Path, out: Path) -> None:
    """Start a run and kill it during training; RuntimeError where it ended first."""
    words = [sys.executable, "-m", "archtool", "run", str(recipe), "--out", str(out), "--quiet"]
    started = subprocess.Popen(words, cwd=recipe.parent, env=environment(), stdout=subprocess.DEVNULL)
    begun = time.monotonic()
    while started.poll() is None and not saved(out) and time.monotonic() - begun < WAIT_S:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    if started.wait() != -signal.SIGKILL or not saved(out):
        raise RuntimeError(f"the run could not be killed in the middle (exit {started.returncode})")


def saved(out: Path) -> bool:
    """Whether a training state lies in the run's scratch folder: it goes when the training is over."""
    return any(out.glob(".work/**/train-state.pt"))


if __name__ == "__main__":
    main()
