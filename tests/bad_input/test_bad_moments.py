"""Runs that are killed, interrupted, stopped by a full disk or started twice, on a real recipe: prune, then quantize.

A child process is made with fork, so that it needs no imports of its own; it is hit just before its n-th durable
write (an fsync or a rename), which visits every state that a crash can leave.
"""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archtool.cli import main
from archtool.run.folder import RunDir
from tests.bad_input.conftest import Outcome, tree

RECIPE = "model: model\nsteps:\n- prune: {budget: params=0.8x}\n- quantize: {scheme: w8}\n"
FULL = 20_000
"""A limit of bytes per file that the pruned weights exceed and the quantized ones do not."""


@pytest.fixture
def recipe(place):
    place.model()
    (place.folder / "r.yaml").write_text(RECIPE)
    return ["run", "r.yaml", "--quiet", "--json", "--out"]


def hash_of(outcome):
    assert outcome.code == 0, outcome
    return json.loads(outcome.out)["run"]["hash"]


def at_write(number, action):
    """Do something just before the n-th fsync or rename of this process."""
    left = [number]

    def watched(function):
        def call(*values, **named):
            left[0] -= 1
            if left[0] == 0:
                action()
            return function(*values, **named)

        return call

    os.fsync, os.replace, os.rename = watched(os.fsync), watched(os.replace), watched(os.rename)


def fork(words, folder, prepare):
    """Start a command line in a child; its output goes to files in ``folder``."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        prepare()
        code = main.run(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def finished(child, folder):
    """Wait for a child; a signal's number is its negative code."""
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), (folder / "out").read_text(), (folder / "err").read_text())


@pytest.fixture
def spoken(tmp_path_factory):
    return tmp_path_factory.mktemp("spoken")


def writes_of(action, monkeypatch):
    """How many durable writes something takes."""
    count = []
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "rename"):
            function = getattr(os, name)
            patch.setattr(os, name, lambda *v, f=function, **n: (count.append(1), f(*v, **n))[1])
        result = action()
    return result, len(count)


def test_killed_before_any_write_it_resumes_to_the_same_hash(place, recipe, spoken, monkeypatch):
    """The first and the last writes, where a run begins and ends, and every fifth between them."""
    found, total = writes_of(lambda: place.run(*recipe, "whole"), monkeypatch)
    whole = hash_of(found)
    assert total > 20
    expected = {k: v for k, v in tree(place.folder / "whole").items() if k.startswith(("model", "edit"))}
    for number in sorted({1, 2, 3, *range(4, total, 5), *range(total - 3, total + 1)}):
        out = f"part{number}"
        child = fork([*recipe, out], spoken, lambda n=number: at_write(n, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        assert finished(child, spoken).code == -signal.SIGKILL
        assert hash_of(place.run(*recipe, out)) == whole
        found = tree(place.folder / out)
        assert {k: v for k, v in found.items() if k.startswith(("model", "edit"))} == expected
        assert not [name for name in found if ".tmp" in name or name.startswith(".work") or name == ".lock"]


@pytest.mark.parametrize("number", [8, 14])
def test_the_printed_resume_command_works_verbatim(place, recipe, spoken, number):
    whole = hash_of(place.run(*recipe, "whole"))
    stop = lambda: at_write(number, lambda: os.kill(os.getpid(), signal.SIGINT))  # noqa: E731
    found = finished(fork([*recipe, "my part"], spoken, stop), spoken)
    assert found.code == 130 and found.out == ""
    assert "Traceback" not in found.err and "error: interrupted" in found.err
    words = shlex.split(re.search(r"continue with: (.*)", found.err)[1])
    assert words == ["archtool", "run", "my part/recipe.lock.yaml", "--out", "my part"]
    assert hash_of(place.run(*words[1:], "--json")) == whole


def test_ctrl_c_in_a_process_of_its_own(place, recipe):
    """The same with the real interpreter and signal: interrupted as soon as the run has begun."""
    text = "model: model\nsteps:\n" + "- prune: {blocks: 1}\n" * 2 + "- quantize: {scheme: w8}\n" * 60
    (place.folder / "r.yaml").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "archtool", *recipe, "part"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = place.folder / "part" / "journal.jsonl"
    for _ in range(6000):
        if journal.exists() and '"step":2' in journal.read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert "hint: continue with: archtool run part/recipe.lock.yaml --out part" in err


def limited(limit):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_a_full_disk_leaves_nothing(place, recipe, spoken):
    before = tree(place.folder)
    found = finished(fork(["prune", "model", "--budget", "params=0.8x", "-q"], spoken, limited(FULL)), spoken)
    assert found.code == 5 and found.out == "", found
    found.says("model.safetensors", "larger than this file system or process may write", "ulimit -f")
    assert "Traceback" not in found.err and tree(place.folder) == before


def test_a_full_disk_in_a_later_step_keeps_the_earlier_ones(place, recipe, spoken):
    whole = hash_of(place.run(*recipe, "whole"))
    fill = lambda: at_write(9, limited(5000))  # noqa: E731
    found = finished(fork([*recipe, "part"], spoken, fill), spoken)
    assert found.code == 5 and "Traceback" not in found.err, found
    assert [record["event"] for record in RunDir(place.folder / "part").journal.read()] == ["start", "step"]
    assert not any(".tmp/" in name for name in tree(place.folder / "part"))
    assert hash_of(place.run(*recipe, "part")) == whole


def test_a_small_disk(place, spoken):
    """A real file system without room, where mounting is permitted."""
    place.model()
    disk = place.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    try:
        found = place.run("prune", "model", "--budget", "params=0.8x", "--out", "disk/run", "--quiet")
        assert found.code == 5 and found.out == ""
        found.says("53,856 bytes, but only", "free on that disk")
        assert tree(disk) == {}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_processes_on_one_run(place, recipe, spoken):
    whole = hash_of(place.run(*recipe, "whole"))
    stop = lambda: at_write(6, lambda: os.kill(os.getpid(), signal.SIGSTOP))  # noqa: E731
    first = fork([*recipe, "run"], spoken, stop)
    os.waitpid(first, os.WUNTRACED)
    second = place.run(*recipe, "run")
    assert second.code == 5 and second.out == ""
    second.says(f"run is being written by process {first}", "another folder with --out")
    os.kill(first, signal.SIGCONT)
    found = finished(first, spoken)
    assert hash_of(found) == whole
    again = place.run(*recipe, "run")
    assert hash_of(again) == whole and json.loads(again.out)["run"]["cached"]
