import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from archtool.config.document import parse_yaml
from archtool.config.gates import check_gates
from archtool.config.load import check_recipe, read_recipe
from archtool.errors import BudgetError, QualityError, RecipeError, ResourceError, UsageError
from archtool.run.engine import Interrupted, RunSettings, dry_run, run_recipe
from archtool.run.folder import RunDir
from archtool.run.journal import Journal

REPO = Path(__file__).resolve().parents[2]
TWO = "[{append: {text: a}}, measure, {append: {text: b, times: 2}}, measure]"


@pytest.fixture
def hooks():
    from archtool_fake import HOOKS

    return HOOKS


def recipe(model, steps=TWO, extra=""):
    return check_recipe(parse_yaml(f"model: {model}\nsteps: {steps}\n{extra}\n", Path("r.yaml")))


def test_a_run_leaves_the_whole_folder(tmp_path, model, hooks):
    out = tmp_path / "run"
    result = run_recipe(recipe(model), hooks, out=out, settings=RunSettings(argv=("archtool", "x")))
    assert (out / "model" / "weights.txt").read_text() == "parentabb"
    assert result.metrics == {"characters": 9.0, "parent_characters": 6.0}
    assert (out / "edit.json").read_text().splitlines() == ["append a x1", "append b x2"]
    found = json.loads((out / "result.json").read_text())
    assert found["metrics"] == result.metrics and [s["verb"] for s in found["steps"]][:2] == [
        "append",
        "measure",
    ]
    record = json.loads((out / "provenance.json").read_text())
    assert record["argv"] == ["archtool", "x"] and record["packages"]["pydantic"] and record["inputs"]["model.path"]
    assert [step["verb"] for step in record["seconds"]] == ["append", "measure", "append", "measure"]
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ["model", "edit.json", "result.json", "provenance.json", "recipe.lock.yaml", "journal.jsonl"]
    )


def test_finished_runs_are_a_cache_and_the_lock_runs_again(tmp_path, model, hooks):
    first = run_recipe(recipe(model), hooks, out=tmp_path / "run")
    again = run_recipe(read_recipe(tmp_path / "run" / "recipe.lock.yaml"), hooks, out=tmp_path / "run")
    assert again.cached and (again.metrics, again.hash) == (first.metrics, first.hash)
    fresh = run_recipe(recipe(model), hooks, out=tmp_path / "run", settings=RunSettings(resume=False))
    assert not fresh.cached and fresh.hash == first.hash


def test_default_folder_and_runs_that_keep_nothing(tmp_path, model, hooks, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_recipe(recipe(model, "[{append: {text: a}}]"), hooks)
    assert result.folder.parent == Path("runs") and result.folder.name.startswith("append-model.txt-")
    before = sorted(tmp_path.rglob("*"))
    assert run_recipe(recipe(model, "[measure]"), hooks).folder is None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_different_run_is_refused_naming_the_keys(tmp_path, model, hooks):
    out = tmp_path / "run"
    run_recipe(recipe(model), hooks, out=out)
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError) as caught:
        run_recipe(recipe(model, TWO.replace("text: a", "text: c"), "seed: 3"), hooks, out=out)
    assert "steps.0.append.text" in caught.value.what and "seed (there 0, here 3)" in caught.value.what
    model.write_text("other parent")
    with pytest.raises(UsageError, match=r"model\.path"):
        run_recipe(recipe(model), hooks, out=out)
    run_recipe(recipe(model), hooks, out=out, settings=RunSettings(force=True))
    assert (out / "model" / "weights.txt").read_text() == "other parentabb"
    assert (out / "mine.txt").read_text() == "keep me"


def test_gates_do_not_change_the_fingerprint(tmp_path, model, hooks):
    run_recipe(recipe(model), hooks, out=tmp_path / "run")
    gated = recipe(model, TWO, "require: characters<=8")
    result = run_recipe(gated, hooks, out=tmp_path / "run")
    assert result.cached
    with pytest.raises(QualityError, match="characters is 9, required <= 8"):
        check_gates(gated.require, result.metrics)
    with pytest.raises(UsageError) as caught:
        check_gates(("charakters>=1",), result.metrics)
    assert "did you mean `characters`" in caught.value.hint


def test_foreign_folders_files_and_own_inputs_are_refused(tmp_path, model, hooks):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="not a run of archtool"):
        run_recipe(recipe(model), hooks, out=tmp_path / "full", settings=RunSettings(force=True))
    with pytest.raises(ResourceError, match="a file is in the way"):
        run_recipe(recipe(model), hooks, out=model)
    with pytest.raises(ResourceError, match="a file is in the way"):
        run_recipe(recipe(model), hooks, out=model / "deeper")
    run_recipe(recipe(model), hooks, out=tmp_path / "run")
    inner = tmp_path / "run" / "model" / "weights.txt"
    with pytest.raises(UsageError, match="lies inside the output"):
        run_recipe(recipe(inner), hooks, out=tmp_path / "run", settings=RunSettings(force=True))
    assert inner.exists()


def test_errors_in_a_step_keep_the_steps_before_it(tmp_path, model, hooks):
    out = tmp_path / "run"
    with pytest.raises(BudgetError):
        run_recipe(recipe(model, "[{append: {text: a}}, {fail: {how: budget}}]"), hooks, out=out)
    assert [r["verb"] for r in RunDir(out).journal.events("step")] == ["append"]
    assert (out / ".work" / "0-append" / "model" / "weights.txt").exists() and not (out / "model").exists()
    with pytest.raises(Interrupted) as caught:
        run_recipe(recipe(model, "[{fail: {how: interrupt}}]"), hooks, out=tmp_path / "stop run")
    assert caught.value.exit_code == 130
    lock = tmp_path / "stop run" / "recipe.lock.yaml"
    assert caught.value.hint == f"continue with: archtool run '{lock}' --out '{tmp_path / 'stop run'}'"


def test_a_model_is_needed(hooks):
    with pytest.raises(RecipeError, match="`measure` needs a model"):
        run_recipe(check_recipe(parse_yaml("steps: [measure]", Path("r.yaml"))), hooks)


def test_dry_run_writes_only_the_lock(tmp_path, model, hooks):
    plan, found = dry_run(recipe(model), hooks, out=tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.lock.yaml"]
    assert [e.seconds for e in found] == [2.0, 0.0, 2.0, 0.0] and plan.steps[2].options.times == 2
    result = run_recipe(recipe(model, "[{append: {text: z}}]"), hooks, out=tmp_path / "run")
    assert not result.cached


def test_states_seen_by_steps_come_from_disk(tmp_path, model, hooks):
    loads = []
    watched = replace(hooks, load_state=lambda folder: loads.append(folder.name) or hooks.load_state(folder))
    run_recipe(recipe(model), watched, out=tmp_path / "run", settings=RunSettings(keep_work=True))
    assert loads == ["0-append", "2-append"]
    assert (tmp_path / "run" / ".work" / "0-append" / "model").exists()


@pytest.mark.parametrize("crash", ["open_model", "save_state", "finish"])
def test_resume_after_a_crash_anywhere_gives_the_same_result(tmp_path, model, hooks, crash):
    whole = run_recipe(recipe(model), hooks, out=tmp_path / "whole")
    calls = []

    def once(*values):
        calls.append(values)
        if len(calls) == (2 if crash == "save_state" else 1):
            raise RuntimeError("power cut")
        return getattr(hooks, crash)(*values)

    broken = replace(hooks, **{crash: once})
    with pytest.raises(RuntimeError):
        run_recipe(recipe(model), broken, out=tmp_path / "run")
    result = run_recipe(recipe(model), broken, out=tmp_path / "run")
    assert (result.hash, result.metrics, result.cached) == (whole.hash, whole.metrics, False)
    assert (tmp_path / "run" / "model" / "weights.txt").read_text() == "parentabb"


STEPS = "[{append: {text: a}}, {pause: {units: 6}}, {append: {text: z}}]"


def start(arguments, seconds, tmp_path):
    paths = os.pathsep.join([str(REPO), str(REPO / "tests" / "fake_plugin")])
    environment = os.environ | {"PYTHONPATH": paths, "FAKE_SLEEP": str(seconds)}
    command = [sys.executable, "-m", "archtool_fake", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_unit(journal, unit):
    for _ in range(2400):
        if unit in Journal(journal).units(1):
            return
        time.sleep(0.05)
    pytest.fail("the step never reached the unit")


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_killed_runs_resume_to_the_same_hash(tmp_path, model, hooks, stop):
    path = tmp_path / "r.yaml"
    path.write_text(f"model: model.txt\nsteps: {STEPS}\n")
    whole = run_recipe(read_recipe(path), hooks, out=tmp_path / "whole")
    process = start(["run", path, "--out", "part"], 120, tmp_path)
    wait_for_unit(tmp_path / "part" / "journal.jsonl", "0")
    if stop == signal.SIGKILL:
        second = start(["run", path, "--out", "part"], 0, tmp_path)
        _, text = second.communicate(timeout=120)
        assert second.returncode == 5 and f"is being written by process {process.pid}" in text
    process.send_signal(stop)
    _, text = process.communicate(timeout=120)
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert "hint: continue with: archtool run part/recipe.lock.yaml --out part" in text
    again = start(["run", "part/recipe.lock.yaml", "--out", "part", "--json"], 0, tmp_path)
    output, text = again.communicate(timeout=120)
    assert again.returncode == 0, text
    assert "resuming after append" in text
    assert json.loads(output)["run"]["hash"] == whole.hash
    assert (tmp_path / "part" / "model" / "weights.txt").read_text() == "parenta012345z"


def test_journal_survives_a_torn_line(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "unit", "step": 0, "unit": "a"})
    with journal.path.open("ab") as file:
        file.write(b'{"event": "un')
    assert list(journal.units(0)) == ["a"]
    journal.append({"event": "unit", "step": 0, "unit": "b"})
    assert list(journal.units(0)) == ["a", "b"] and journal.path.read_bytes().count(b"\n") == 2


def test_a_lock_left_behind_is_taken_over(tmp_path, model, hooks):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("process 999999 on nowhere\n")
    run_recipe(recipe(model), hooks, out=tmp_path / "run")
    assert not (tmp_path / "run" / ".lock").exists()
