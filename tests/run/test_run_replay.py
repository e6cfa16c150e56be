"""Steps whose edits alone make their model keep only the edits, and come back as they were."""

from dataclasses import replace
from pathlib import Path

import pytest

from archtool.config.document import parse_yaml
from archtool.config.load import check_recipe
from archtool.model.save import save
from archtool.run import hooks as real
from archtool.run.engine import RunSettings, run_recipe
from archtool.run.persist import Saved, needed, restore
from archtool.run.persist import save as persist
from tests.model.tiny import tiny

STEPS = "[{prune: {budget: params=0.9x, units: [ffn]}}, {quantize: {scheme: w8}}]"
KEEP = RunSettings(keep_work=True)


@pytest.fixture
def llama(tmp_path, monkeypatch):
    monkeypatch.setattr(real, "VERIFIED_BYTES", 0)
    folder = tmp_path / "llama"
    folder.mkdir()
    save(tiny("llama"), folder)
    return folder


def recipe(model, steps=STEPS):
    return check_recipe(parse_yaml(f"model: {model}\nsteps: {steps}\n", Path("r.yaml")))


def test_a_chain_writes_one_model_and_the_same_as_step_by_step(tmp_path, llama):
    hooks = replace(real.HOOKS, finish=lambda folder: None)
    chain = run_recipe(recipe(llama), hooks, out=tmp_path / "chain", settings=KEEP)
    assert not (tmp_path / "chain" / ".work" / "0-prune" / "model").exists()
    written = run_recipe(recipe(llama), replace(hooks, replay=None), out=tmp_path / "written", settings=KEEP)
    assert (tmp_path / "written" / ".work" / "0-prune" / "model").exists()
    assert (chain.hash, chain.metrics) == (written.hash, written.metrics)
    edits = [(tmp_path / name / "edit.json").read_text() for name in ("chain", "written")]
    assert edits[0] == edits[1]


@pytest.mark.parametrize("crash", ["save_state", "finish"])
def test_a_chain_resumes_to_the_same_hash(tmp_path, llama, crash):
    hooks = replace(real.HOOKS, finish=lambda folder: None)
    whole = run_recipe(recipe(llama), hooks, out=tmp_path / "whole")

    def broken(*values):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run_recipe(recipe(llama), replace(hooks, **{crash: broken}), out=tmp_path / "run")
    again = run_recipe(recipe(llama), hooks, out=tmp_path / "run")
    assert (again.hash, again.metrics) == (whole.hash, whole.metrics)


def test_new_values_and_unchanged_ends_are_written_whole(tmp_path, llama):
    """Only `derived` states are kept as edits, and the last step that could write makes the model whole."""
    from archtool.run.folder import RunDir

    folder = RunDir(tmp_path / "run")
    folder.create()
    first = real.open_model(recipe(llama))
    first = replace(first, parent=first.checkpoint)
    start = Saved(first, "input", "input")
    values = replace(first, checkpoint=replace(first.checkpoint), edits=({"method": "t", "decisions": []},))
    trained = persist(real.HOOKS, folder, "0-a", start, start, values, False)
    assert (folder.work / "0-a" / "model").is_dir()
    derived = replace(trained.state, checkpoint=(child := replace(trained.state.checkpoint)), derived=child)
    derived = replace(derived, edits=(*derived.edits, {"method": "u", "decisions": []}))
    kept = persist(real.HOOKS, folder, "1-b", start, trained, derived, False)
    assert not (folder.work / "1-b" / "model").exists() and kept.state.derived is None
    assert needed(folder, kept) == {"0-a", "1-b"}
    assert restore(real.HOOKS, folder, "1-b", start).state.edits == kept.state.edits
    end = persist(real.HOOKS, folder, "2-c", start, kept, kept.state, True)
    assert (folder.work / "2-c" / "model").is_dir() and end.hash == trained.hash
    assert needed(folder, end) == {"2-c"}
