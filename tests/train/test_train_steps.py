import json
from pathlib import Path

import pytest
import torch

from archtool.config.preset import build_model, read_preset, shipped_presets
from archtool.errors import RecipeError
from archtool.model.load import load

RECIPE = """
model: {build: vit-digits}
data: {path: "sklearn:digits", limit: 60}
task: image-classification
threads: 1
steps:
  - train: {steps: 3, batch_size: 8}
  - prune: {budget: params=0.7x}
  - recover: {steps: 2, batch_size: 8}
"""


def test_train_prune_recover_from_a_recipe(call, tmp_path):
    Path("r.yaml").write_text(RECIPE)
    code, out, err = call("run", "r.yaml", "--out", "one", "--json", "--quiet")
    assert code == 0, err
    found = json.loads(out)
    assert found["records"]["train"]["steps"] == 3 and found["records"]["recover"]["steps"] == 2
    assert found["records"]["train"]["threads"] == 1 and len(found["records"]["train"]["curve"]) == 3
    assert 0 <= found["accuracy"] <= 1 and found["recover_loss"] >= 0 and "agreement_kl" in found
    again = json.loads(call("run", "r.yaml", "--out", "two", "--json", "--quiet")[1])
    assert again["run"]["hash"] == found["run"]["hash"]


def test_a_trained_model_opens_in_transformers_and_trains_on(call):
    Path("r.yaml").write_text(RECIPE.partition("  - prune")[0])
    assert call("run", "r.yaml", "--out", "run", "--quiet")[0] == 0
    from transformers import AutoModelForImageClassification

    stock = AutoModelForImageClassification.from_pretrained("run/model").eval()
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load(Path("run/model")).module()(pixel_values=x)["logits"]
        assert ours.shape == (2, 10) and torch.allclose(stock(pixel_values=x).logits, ours, atol=1e-5)
    argv = ("train", "run/model", "--data", "sklearn:digits", "--set", "data.limit=40", "--threads", 1)
    code, out, err = call(*argv, "--steps", 2, "--shift", 1, "--batch-size", 8, "--out", "on", "--json", "--quiet")
    assert code == 0 and json.loads(out)["train_loss"] > 0, err
    assert call(*argv, "--steps", 2, "--dry-run", "--out", "dry")[0] == 0 and not Path("dry/model").exists()


def test_mistakes_have_their_exit_codes(call):
    Path("r.yaml").write_text(RECIPE.replace("vit-digits", "vit-digit"))
    code, _, err = call("run", "r.yaml", "--out", "x")
    assert code == 3 and "vit-digits" in err
    Path("r.yaml").write_text(RECIPE.replace('data: {path: "sklearn:digits", limit: 60}', "").replace("task:", "#"))
    code, _, err = call("run", "r.yaml", "--out", "y")
    assert code == 2 and "--data" in err
    Path("r.yaml").write_text(RECIPE.replace("steps: 3, ", ""))
    code, _, err = call("run", "r.yaml", "--out", "z")
    assert code == 2 and "--steps N or --minutes M" in err


def raw(name):
    return shipped_presets()[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in sorted(shipped_presets()) if "states" not in raw(name)])
def test_every_small_architecture_builds_and_is_seeded(name):
    one, two, other = (build_model(name, seed) for seed in (0, 0, 1))
    first = next(n for n, lazy in one.weights.items() if lazy.shape and len(lazy.shape) == 2)
    rows = [c.weights[first].rows(0, 1) for c in (one, two, other)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])
    assert "num_labels" not in one.source.config and one.source.config["model_type"]


def test_mistakes_in_an_architecture_are_shown_at_their_place(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("family: vit\nconfig:\n  image_size: 8\n  hidden_size: no\n")
    with pytest.raises(RecipeError) as caught:
        build_model(str(file), 0)
    assert (caught.value.where.line, caught.value.where.column) == (
        4,
        3,
    ) and "hidden_size" in caught.value.what
    file.write_text("family: vitt\nconfig: {}\n")
    with pytest.raises(RecipeError, match="vitt") as caught:
        build_model(str(file), 0)
    assert caught.value.where.line == 1
    file.write_text("famly: vit\nconfig: {}\n")
    with pytest.raises(RecipeError, match="famly") as caught:
        read_preset(str(file))
    assert "family" in caught.value.hint
    file.write_text("- 1\n")
    with pytest.raises(RecipeError, match="no architecture"):
        read_preset(str(file))
    with pytest.raises(RecipeError, match="no file or shipped architecture"):
        read_preset("nothing-like-it")


def waves(rows=160):
    """Two waves and their times, as a file."""
    import math

    lines = [f"2020-01-{i},{math.sin(i / 3):.5f},{5 + math.cos(i / 5):.5f}" for i in range(rows)]
    Path("waves.csv").write_text("\n".join(["date,a,b", *lines]))


def test_forecasters_train_on_windows_of_their_own_length(call):
    waves()
    config = ("num_input_channels=2", "context_length=24", "prediction_length=6", "patch_length=8", "patch_stride=4")
    assert call("build", "patchtst-etth1", *(w for c in config for w in ("--set", c)), "--out", "fresh")[0] == 0
    data = ("--data", "waves.csv", "--threads", 1, "--json", "--quiet")
    _, before, _ = call("eval", "fresh", *data, "--set", "data.split=test")
    code, out, err = call("train", "fresh", *data, "--steps", 30, "--lr", 1e-2, "--batch-size", 16, "--out", "run")
    assert code == 0, err
    spec = json.loads(out)["records"]["data"]["spec"]
    assert (spec["preprocess"]["length"], spec["preprocess"]["horizon"], spec["split"]) == (24, 6, "test")
    _, after, _ = call("eval", "run/model", *data, "--set", "data.split=test")
    assert json.loads(after)["mse"] < 0.7 * json.loads(before)["mse"]
    assert json.loads(after)["mse"] == pytest.approx(json.loads(out)["mse"], abs=1e-6)
    trained, fresh = (load(Path(folder)).module().state_dict() for folder in ("run/model", "fresh"))
    assert any("running_var" in name and not torch.equal(t, fresh[name]) for name, t in trained.items())


def test_a_series_of_another_shape_is_refused_before_training(call):
    waves()
    assert call("build", "patchtst-etth1", "--out", "fresh")[0] == 0
    wrong = ("--task", "forecast", "--set", "data.preprocess.length=24", "--set", "data.preprocess.horizon=6")
    code, _, err = call("train", "fresh", "--data", "waves.csv", *wrong, "--steps", 1, "--out", "run")
    assert code == 4 and "24 rows and 2 variables" in err and "336" in err
