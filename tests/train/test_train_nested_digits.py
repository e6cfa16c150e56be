"""On real digits: the small prefixes of a nested model are models; those of a model trained as a whole are not."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from archtool.cli import main
from archtool.config.preset import build_model
from archtool.data import DataSpec, load_data
from archtool.data.batches import Batches
from archtool.export.model import export_model
from archtool.ir.nesting import uniform
from archtool.model.apply import apply
from archtool.model.load import load
from archtool.train.run import train
from archtool.train.sampling import Sampling
from archtool.train.settings import TrainSettings
from archtool.transforms.nesting import nesting_of

VIT = {
    "family": "vit",
    "config": {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 8,
        "patch_size": 4, "num_channels": 1, "num_labels": 10, "architectures": ["ViTForImageClassification"],
        "initializer_range": 0.15,
    },
}  # fmt: skip
SETTINGS = TrainSettings(steps=100, lr=1e-2, batch_size=64)


@cache
def digits(split):
    return load_data(DataSpec("sklearn:digits", split=split))


def accuracy(checkpoint):
    data = digits("test")
    batch = Batches(data, len(data)).batch(np.arange(len(data)))
    with torch.no_grad():
        logits = checkpoint.module()(**batch.inputs)["logits"]
    return float((logits.argmax(-1) == batch.targets["labels"]).float().mean())


def accuracies(trained, nesting):
    members = [uniform(nesting, level) for level in range(nesting.granularities)]
    return [accuracy(apply(trained, member.edit(trained.architecture, "t"))) for member in members]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_small_granularities_beat_the_same_prefix_of_a_plainly_trained_model(seed):
    start = build_model(VIT, seed)
    nesting = nesting_of(start.architecture, ("ffn", "heads"), (0.125, 0.25, 0.5, 1.0))
    settings = replace(SETTINGS, seed=seed)
    plain, _ = train(start, digits("train"), settings)
    nested, _ = train(replace(start, nesting=nesting), digits("train"), settings, sampling=Sampling("all"))
    cut, small = accuracies(plain, nesting), accuracies(nested, nesting)
    assert all(mine > theirs + 0.15 for mine, theirs in zip(small[:2], cut[:2], strict=True)), (small, cut)
    assert small[-1] > 0.9 and cut[-1] > 0.9, (small, cut)


def call(monkeypatch, capsys, *argv):
    monkeypatch.setenv("COLUMNS", "200")
    code = main.run([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


COMMAND = ("--data", "sklearn:digits", "--set", "data.limit=60", "--threads", 1)


def test_the_command_trains_a_nested_model_and_goes_on_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    export_model(build_model(VIT, 0), tmp_path / "plain")
    nested = ("--nested", "ffn,heads", "--levels", "0.5,1", "--sampling", "sandwich", "--draws", 1)
    code, out, err = call(
        monkeypatch, capsys, "train", "plain", *COMMAND, *nested, "--steps", 3, "--out", "one", "--json", "--quiet"
    )
    assert code == 0, err
    record = json.loads(out)["records"]["train"]["passes"]["nested"]
    assert record["rule"] == "sandwich" and set(record["level_losses"]) == {"0", "1"}
    assert record["drawn"]["b0.ffn.hidden"]["24"] + record["drawn"]["b0.ffn.hidden"]["48"] == 9
    trained = load(tmp_path / "one" / "model")
    assert trained.nesting.sizes["b0.ffn.hidden"] == (24, 48)
    assert "architecture.json" not in {p.name for p in (tmp_path / "one" / "model").iterdir()}
    code, out, err = call(
        monkeypatch, capsys, "train", "one/model", *COMMAND, "--sampling", "random", "--steps", 4, "--out", "two",
        "--json", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    again = json.loads(out)["records"]["train"]["passes"]["nested"]
    assert again["rule"] == "random" and sum(again["drawn"]["b0.ffn.hidden"].values()) == 4
    assert load(tmp_path / "two" / "model").nesting == trained.nesting


@pytest.mark.parametrize(
    ("model", "flags", "code", "named"),
    [
        ("plain", ("--sampling", "random"), 2, "not nested"),
        ("plain", ("--draws", 2), 2, "not nested"),
        ("plain", ("--levels", "0.5,1"), 2, "--nested"),
        ("plain", ("--nested", "ffn", "--levels", "1,0.5"), 2, "ascending"),
        ("plain", ("--nested", "ffn", "--levels", "half,1"), 2, "half"),
        ("plain", ("--nested", "fnf"), 2, "fnf"),
        ("plain", ("--nested", "state"), 4, "state"),
        ("plain", ("--nested", "ffn", "--sampling", "some"), 2, "some"),
        ("nested", ("--nested", "ffn"), 2, "nested already"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, monkeypatch, capsys, model, flags, code, named):
    monkeypatch.chdir(tmp_path)
    start = build_model(VIT, 0)
    nesting = nesting_of(start.architecture, ("ffn",), (0.5, 1.0))
    export_model(start if model == "plain" else replace(start, nesting=nesting), tmp_path / model)
    found, _, err = call(monkeypatch, capsys, "train", model, *COMMAND, *flags, "--steps", 2, "--out", "run")
    assert found == code and named in " ".join(err.split())
    assert not (tmp_path / "run").exists()


def test_recovering_a_nested_model_says_what_it_leaves_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start = build_model(VIT, 0)
    export_model(replace(start, nesting=nesting_of(start.architecture, ("ffn",), (0.25, 0.5, 1.0))), tmp_path / "m")
    code, _, err = call(
        monkeypatch, capsys, "extract", "m", "--budget", "params=0.8x", *COMMAND[:4], "--recover", "steps=1",
        "--out", "run",
    )  # fmt: skip
    assert code == 0, err
    assert "submodels are not trained along" in " ".join(err.split())
