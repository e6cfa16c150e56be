"""The Python API: verbs on the same engine as the command line, whatever has been imported before."""

import pytest

import archtool
from archtool import api
from archtool.errors import QualityError
from archtool.model.save import save
from tests.model.tiny import tiny

VERBS = (
    "bench", "evaluate", "export", "extract", "fold", "nest", "prune", "quantize", "teach", "train", "trim_vocabulary",
)  # fmt: skip


def test_every_step_has_a_function():
    from archtool.builtins import STEPS

    names = {"evaluate" if step == "eval" else step.replace("-", "_") for step in STEPS}
    assert names - {"recover"} == set(VERBS)
    assert all(callable(getattr(api, name)) for name in (*VERBS, "run"))


def test_short_names_are_functions_although_packages_are_loaded(tmp_path):
    (tmp_path / "parent").mkdir()
    save(tiny("vit"), tmp_path / "parent", native=False)
    small = archtool.quantize(tmp_path / "parent", out=tmp_path / "run", scheme="w8", seed=3)
    assert small.metrics["bits"] < 16 and archtool.load(str(small.folder / "model")).plan.entries
    again = archtool.extract(tmp_path / "parent", out=tmp_path / "other", budget="params=0.8x")
    assert again.metrics["parameters"] < small.metrics["parameters"]


def test_a_recipe_as_a_mapping_and_its_gate(tmp_path):
    (tmp_path / "parent").mkdir()
    save(tiny("vit"), tmp_path / "parent", native=False)
    recipe = {"model": str(tmp_path / "parent"), "steps": [{"prune": {"budget": "params=0.8x"}}], "require": "bits<=8"}
    with pytest.raises(QualityError, match="bits is 32"):
        api.run(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "model").is_dir()


def test_lists_on_the_command_line_take_commas(tmp_path, monkeypatch):
    from archtool.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent").mkdir()
    save(tiny("llama"), tmp_path / "parent", native=False)
    assert main.run(["extract", "parent", "--budget", "params=0.8x", "--units", "ffn,heads", "--out", "run"]) == 0
    sizes = archtool.load("run/model").architecture.size
    assert sizes["b0.attn.kv"] == 1 and sizes["b0.ffn.hidden"] < 40
