"""`torchrun --nproc-per-node 2` through the real command line: one writes and speaks, the losses are those of one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RECIPE = """
model: {build: vit-digits}
data: {path: "sklearn:digits", limit: 120}
task: image-classification
threads: 1
steps:
  - train: {steps: STEPS, batch_size: 16, shift: 1, lr: LR, optimizer: sgd, validation: 0.2, save_seconds: 0}
  - prune: {budget: params=0.8x, units: [ffn]}
  - recover: {steps: 4, batch_size: 16, optimizer: sgd, losses: {task: 0.5, kl: 1, hidden: 0.1}}
"""
SINGLE = (sys.executable, "-m")
DOUBLE = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def started(folder, how, out, steps=10, lr=0.02):
    (folder / f"{out}.yaml").write_text(RECIPE.replace("STEPS", str(steps)).replace("LR", str(lr)))
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [*how, "archtool", "run", f"{out}.yaml", "--out", out, "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def finished(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def losses(folder, step):
    return [loss for _, loss in folder["records"][step]["curve"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same recipe in one process and in two."""
    folder = tmp_path_factory.mktemp("whole")
    ends = {name: finished(started(folder, how, name)) for name, how in (("one", SINGLE), ("two", DOUBLE))}
    return folder, ends


def test_two_processes_have_the_losses_of_one(whole):
    one, two = (json.loads(end[1]) for end in whole[1].values())
    for step in ("train", "recover"):
        assert (one["records"][step]["processes"], two["records"][step]["processes"]) == (1, 2)
        assert losses(two, step) == pytest.approx(losses(one, step), rel=1e-4)
    assert losses(two, "train")[0] == pytest.approx(losses(one, "train")[0], rel=1e-6)
    assert two["accuracy"] == pytest.approx(one["accuracy"], abs=0.05)
    assert two["records"]["train"]["best_step"] == one["records"]["train"]["best_step"]


def test_only_the_main_process_speaks_and_writes(whole):
    folder, ends = whole
    code, out, err = ends["two"]
    assert code == 0, err
    assert err.count("train: done in") == 1 and err.count("recover: done in") == 1 and out.count('"records"') == 1
    names = [sorted(path.name for path in (folder / name).iterdir()) for name in ("one", "two")]
    assert names[0] == names[1] and "model" in names[1]
    journal = [json.loads(line) for line in (folder / "two" / "journal.jsonl").read_text().splitlines()]
    assert [record["event"] for record in journal] == ["start", "step", "step", "step", "done"]


def test_when_the_main_one_is_killed_they_resume_to_the_same_bits(whole):
    folder, ends = whole
    expected = json.loads(ends["two"][1])["run"]["hash"]
    process = started(folder, DOUBLE, "killed")
    state = folder / "killed" / ".work" / "0-train.scratch" / "train-state.pt"
    for _ in range(2400):
        if state.exists() or process.poll() is not None:
            break
        time.sleep(0.02)
    main = int(re.search(r"process (\d+)", (folder / "killed" / ".lock").read_text())[1])
    os.kill(main, signal.SIGKILL)
    code, out, _ = finished(process)  # torchrun ends the other process
    assert code != 0 and out == "" and not (folder / "killed" / "model").exists()
    code, out, err = finished(started(folder, DOUBLE, "killed"))
    assert code == 0 and json.loads(out)["run"]["hash"] == expected, err


def test_an_error_is_said_once_and_ends_all(tmp_path):
    process = started(tmp_path, DOUBLE, "bad", steps=30, lr=1e30)
    code, out, err = finished(process)
    assert code != 0 and out == ""
    assert err.count("error: the loss is ") == 1 and "a bug in archtool" not in err
