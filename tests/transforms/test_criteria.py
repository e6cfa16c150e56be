"""Criteria of pruning: what fisher scores, that it beats its baselines, and the command line."""

import json

import pytest
import torch

from archtool.budget.language import parse_budget
from archtool.cli import main
from archtool.config.preset import build_model
from archtool.curvature.collect import Collection
from archtool.data import DataSpec, load_data
from archtool.errors import UsageError
from archtool.evaluate import evaluate
from archtool.model.apply import apply
from archtool.model.costs import costs
from archtool.model.save import save
from archtool.train.run import train
from archtool.train.settings import TrainSettings
from archtool.transforms.allocate import allocate
from archtool.transforms.prune.criteria.base import Evidence, criterion
from archtool.transforms.units import unit_axes
from archtool.transforms.widths import selection_edit
from tests.model.tiny import tiny

VIT = {
    "family": "vit",
    "config": {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 8,
        "patch_size": 2, "num_channels": 1, "architectures": ["ViTForImageClassification"],
        "id2label": {str(i): str(i) for i in range(10)},
    },
}  # fmt: skip
SEEDS = (0, 1, 2)


def digits(split):
    return load_data(DataSpec("sklearn:digits", task="image-classification", split=split))


@pytest.fixture(scope="module")
def trained():
    settings = [TrainSettings(steps=300, lr=5e-3, batch_size=64, seed=seed) for seed in SEEDS]
    return [train(build_model(VIT, s.seed), digits("train"), s)[0] for s in settings]


def left(checkpoint, name, removed, seed):
    """KL from the parent on test images with a share of all ffn units removed, ranked over the whole model."""
    axes = unit_axes(checkpoint.architecture, ["ffn"])
    found = criterion(name)(checkpoint, axes, Evidence(digits("train"), Collection(256, seed=seed)))
    ranked = sorted(((s, axis, i) for axis, row in found.items() for i, s in enumerate(row)), reverse=True)
    order = {axis: [i for _, a, i in ranked if a == axis] for axis in axes}
    best = ranked[: round(len(ranked) * (1 - removed))]
    kept = {axis: max(1, sum(a == axis for _, a, _ in best)) for axis in axes}
    small = apply(checkpoint, selection_edit(name, order, kept))
    parent = checkpoint.module()
    return evaluate(small.module(), "agreement", digits("test"), parent=parent).values["kl"]


@pytest.mark.parametrize("removed", [0.7, 0.85])
def test_fisher_beats_magnitude_and_random(trained, removed):
    mean = {
        name: sum(left(c, name, removed, s) for c, s in zip(trained, SEEDS, strict=True)) / len(SEEDS)
        for name in ("fisher", "fisher-batch", "magnitude", "random")
    }
    assert mean["fisher"] < 0.95 * mean["magnitude"] and mean["fisher"] < 0.5 * mean["random"], mean
    assert mean["fisher"] < 1.3 * mean["fisher-batch"], mean


def test_exact_allocation_by_fisher_meets_the_budget_and_removes_least():
    checkpoint = tiny("vit")
    axes = unit_axes(checkpoint.architecture, ["ffn", "heads"])
    found = {axis: torch.rand(checkpoint.architecture.size[axis]).tolist() for axis in axes}
    budget = parse_budget("params=0.7x").resolve(costs(checkpoint))
    edit = allocate(checkpoint.architecture, found, budget, lambda e: costs(apply(checkpoint, e)), "fisher")
    assert not budget.check(costs(apply(checkpoint, edit)))


def test_fisher_without_data_says_what_is_missing():
    with pytest.raises(UsageError, match="needs calibration data"):
        criterion("fisher")(tiny("bert"), ["b0.ffn.hidden"], Evidence())
    with pytest.raises(UsageError, match="unknown criterion `fishr`"):
        criterion("fishr")


def test_prune_by_fisher_on_the_command_line(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHTOOL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vit").mkdir()
    save(trained[0], tmp_path / "vit")
    words = ["prune", "vit", "--criterion", "fisher", "--data", "sklearn:digits", "--allocation", "exact", "--json"]
    for budget in ("params=0.7x", "params=0.5x"):
        capsys.readouterr()
        assert main.run([*words, "--budget", budget, "--out", budget]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["accuracy"] > 0.5
    assert len(list((tmp_path / "cache" / "curvature").glob("*.npz"))) == 1
