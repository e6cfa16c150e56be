"""Item 6: runs killed with SIGKILL at random steps end with the hash of an uninterrupted one; two processes equal one.

python benchmarks/train_resume.py [--quick]
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Done, archtool, arguments, emit, environment, process

STEPS = 90
KILLS = 3
OPTIMIZERS = ("adamw", "muon", "sgd")
LOSSES = "losses: {task: 0.5, kl: 1, hidden: 0.1, attention: 0.1}, layers: even"
RECIPE = """model: {build: vit-digits}
data: {path: "sklearn:digits", split: test}
task: image-classification
threads: 1
steps:
"""
RESUMED = "- train: {{steps: 90, batch_size: 32, optimizer: {optimizer}, teacher: teacher/model, {losses}, shift: 1, \
mixup: 0.4, validation: 0.1, validation_steps: 10, patience: 6, save_seconds: 0.05}}\n"
SHARED = "- train: {{steps: 60, batch_size: 32, lr: {lr}, optimizer: {optimizer}, shift: 1}}\n"
WAIT_S = 300.0


def main() -> None:
    """A teacher first; then the killed runs of every optimizer, and one process beside two."""
    quick = arguments(__doc__).parse_args().quick
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe(folder, "teacher", "- train: {steps: 60, batch_size: 32}\n")
        run(folder, "teacher").json()
        found = {name: hashes(folder, name) for name in (OPTIMIZERS[1:2] if quick else OPTIMIZERS)}
        emit("nested.6.distinct_hashes", max(len(set(each)) for each in found.values()),
             note=f"one whole run and {KILLS} killed at random steps, each of {', '.join(found)}")  # fmt: skip
        for optimizer, lr in (("sgd", 0.02), ("adamw", 0.001)):
            difference, last = two_against_one(folder, optimizer, lr)
            emit(f"nested.6.loss_difference_{optimizer}", difference,
                 note=f"largest of 60 steps; the last loss is {last:.4f}")  # fmt: skip


def recipe(folder: Path, name: str, step: str) -> None:
    """Write a recipe of one step."""
    (folder / f"{name}.yaml").write_text(RECIPE + step)


def run(folder: Path, name: str, out: str = "") -> Done:
    """Run a recipe to its end."""
    return archtool("run", f"{name}.yaml", "--out", out or name, "--json", "--quiet", cwd=folder)


def hashes(folder: Path, optimizer: str) -> list[str]:
    """The hash of a whole run, and of runs that were killed at a random step and went on."""
    recipe(folder, optimizer, RESUMED.format(optimizer=optimizer, losses=LOSSES))
    found = [str(run(folder, optimizer, f"{optimizer}-whole").json()["run"]["hash"])]
    drawn = random.Random(f"kills of {optimizer}")
    for i in range(KILLS):
        out = f"{optimizer}-{i}"
        kill_at(folder, optimizer, out, drawn.randint(5, STEPS - 10))
        found.append(str(run(folder, optimizer, out).json()["run"]["hash"]))
    return found


def kill_at(folder: Path, name: str, out: str, step: int) -> None:
    """Start a run and kill it once its journal has the losses of ``step`` and a state was saved."""
    words = [sys.executable, "-m", "archtool", "run", f"{name}.yaml", "--out", out, "--quiet"]
    running = subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    scratch, until = folder / out / ".work" / "0-train.scratch", time.monotonic() + WAIT_S
    while running.poll() is None and time.monotonic() < until:
        if (scratch / "train-state.pt").exists() and reached(scratch / "losses.jsonl", step):
            break
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    if running.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the run ended with {running.returncode} before step {step}")


def reached(journal: Path, step: int) -> bool:
    """Whether the losses of a step are written."""
    text = journal.read_text() if journal.exists() else ""
    steps = re.findall(r'^\{"step": (\d+), "loss"', text, re.MULTILINE)
    return bool(steps) and int(steps[-1]) >= step


def two_against_one(folder: Path, optimizer: str, lr: float) -> tuple[float, float]:
    """The largest difference of the losses of two processes and one, step by step, and the last loss."""
    name = f"{optimizer}-shared"
    recipe(folder, name, SHARED.format(optimizer=optimizer, lr=lr))
    one = run(folder, name, f"{name}-one").json()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    words = [*launch, "archtool", "run", f"{name}.yaml", "--out", f"{name}-two", "--json", "--quiet"]
    two = json.loads(process(words, folder, environment(OMP_NUM_THREADS="1")).stdout)
    curves = [losses(found) for found in (one, two)]
    if [found["records"]["train"]["processes"] for found in (one, two)] != [1, 2]:
        raise RuntimeError("the runs were not made by one process and by two")
    return max(abs(a - b) for a, b in zip(*curves, strict=True)), curves[0][-1]


def losses(found: dict[str, Any]) -> list[float]:
    """The loss of each step."""
    return [loss for _, loss in found["records"]["train"]["curve"]]


if __name__ == "__main__":
    main()
