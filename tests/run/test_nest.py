"""``nest``: order, levels, nested training, and what the report says of every level."""

import itertools
import json

import pytest
import torch

from archtool.cli import main
from archtool.config.preset import build_model
from archtool.curvature.collect import Collection
from archtool.evaluate import evaluate
from archtool.ir.table import alike
from archtool.model.apply import apply
from archtool.model.load import load
from archtool.model.save import save
from archtool.train.run import train
from archtool.train.settings import TrainSettings
from archtool.transforms.extract.order import order_edit, orders, reordered
from archtool.transforms.nested_levels import allocated_levels, block_parameters, fraction_levels
from archtool.transforms.nesting import nesting_of
from archtool.transforms.prune.criteria.base import Evidence, criterion
from archtool.transforms.units import unit_axes
from tests.model.tiny import tiny
from tests.train.train_models import text_data, tiny_llama
from tests.transforms.test_criteria import VIT, digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small ViT, trained on digits."""
    place = tmp_path_factory.mktemp("vit") / "vit"
    place.mkdir()
    vit = {**VIT, "config": {**VIT["config"], "num_hidden_layers": 2, "patch_size": 4}}
    save(train(build_model(vit, 0), digits("train"), TrainSettings(steps=200, lr=5e-3))[0], place)
    return place


@pytest.fixture
def nest(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHTOOL_CACHE", str(tmp_path / "cache"))

    def run(*words, code=0, model=folder):
        capsys.readouterr()
        assert main.run(["nest", str(model), "--out", "out", "--json", *words]) == code
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else said.err

    return run


def test_the_order_alone_keeps_the_function_and_helps_prefixes(nest, folder, tmp_path):
    words = ["--units", "ffn,v,width", "--levels", "0.75,0.9,1", "--data", "sklearn:digits"]
    said = nest(*words)
    before, after = load(folder), load(tmp_path / "out" / "model")
    assert after.nesting is not None and after.nesting.sizes["b0.ffn.hidden"] == (36, 43, 48)
    assert said["agreement_top1_match"] == 1.0 and said["agreement_kl"] < 1e-6
    pixels = torch.randn(5, 1, 8, 8)
    one, two = (c.module()(pixel_values=pixels)["logits"] for c in (before, after))
    assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    rows = result["records"]["nest"]["levels"]
    assert [row["fraction"] for row in rows] == [0.75, 0.9, 1.0]
    plain, ordered = (rows[0]["metrics"][side]["loss"]["value"] for side in ("plain prefix", "in order"))
    assert ordered < plain
    assert said["loss_at_0.75"] == pytest.approx(ordered)
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(report["search"]["candidates"]) == 6


def test_training_makes_every_level_better_and_is_stock(nest, folder, tmp_path):
    words = [
        "--units",
        "ffn,heads",
        "--levels",
        "0.25,0.5,1",
        "--data",
        "sklearn:digits",
        "--steps",
        "60",
        "--lr",
        "1e-3",
    ]
    nest(*words)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    for row in result["records"]["nest"]["levels"][:2]:
        loss = {side: entry["loss"]["value"] for side, entry in row["metrics"].items()}
        assert loss["nested"] < loss["in order"], loss
    assert json.loads((tmp_path / "out" / "export.json").read_text())["dialect"] == "stock"
    child = load(tmp_path / "out" / "model")
    assert child.nesting is not None and child.architecture.size == load(folder).architecture.size


def test_sizes_by_score_meet_their_share_and_are_nested(nest, tmp_path):
    words = ["--units", "ffn,heads", "--levels", "0.5,0.75,1", "--data", "sklearn:digits", "--allocation", "exact"]
    nest(*words)
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["records"]["nest"]["levels"]
    whole = rows[-1]["block_parameters"]
    assert all(row["block_parameters"] <= row["fraction"] * whole for row in rows)
    assert rows[0]["block_parameters"] > 0.4 * whole
    for small, large in itertools.pairwise(rows):
        assert all(n <= large["counts"][axis] for axis, n in small["counts"].items())


def test_depth_goes_in_the_order_of_least_loss(nest, tmp_path):
    nest("--units", "depth", "--levels", "0.5,1", "--data", "sklearn:digits")
    (block,) = load(tmp_path / "out" / "model").nesting.depth
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["records"]["nest"]["levels"]
    assert rows[0]["skipped"] == [block] and rows[1]["skipped"] == []


def test_it_is_a_recipe_step_that_extract_and_recover_follow(nest, folder, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {folder}\ndata: sklearn:digits\nsteps:\n"
        "  - nest: {units: [ffn], levels: [0.5, 1.0], steps: 5}\n  - extract: {budget: params=0.8x}\n"
    )
    assert main.run(["run", str(recipe), "--out", str(tmp_path / "whole"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["parameters"] < load(folder).architecture.size["b0.ffn.hidden"] * 1e6


def test_mistakes_are_refused_with_a_way_out(nest, tmp_path):
    assert "needs calibration data" in nest(code=2)
    assert "did you mean `heads`?" in nest("--units", "head", "--data", "sklearn:digits", code=2)
    assert "ascending" in nest("--levels", "1,0.5", "--data", "sklearn:digits", code=2)
    assert "unknown criterion" in nest("--criterion", "fishr", code=2)
    nest("--data", "sklearn:digits", "--levels", "0.5,1")
    (tmp_path / "out").rename(tmp_path / "first")
    assert "nested already" in nest("--data", "sklearn:digits", code=2, model=tmp_path / "first" / "model")


def test_levels_of_a_language_model_with_tied_and_grouped_axes(tmp_path):
    """The importance order of a Llama beats its reverse at every prefix."""
    data = text_data(tmp_path)
    llama = train(tiny_llama(), data, TrainSettings(steps=60, lr=1e-2, batch_size=8))[0]
    axes = unit_axes(llama.architecture, ["ffn", "heads", "v", "qk"])
    scores = criterion("fisher")(llama, axes, Evidence(data, Collection(32)))
    losses = {}
    for name, sign in (("best", 1), ("worst", -1)):
        ordered = apply(
            llama, order_edit(llama.architecture, {a: [sign * s for s in row] for a, row in scores.items()})
        )
        nesting = nesting_of(ordered.architecture, ["ffn", "heads", "v", "qk"], [0.5, 0.75, 1])
        levels = fraction_levels(nesting, ordered.architecture, [0.5, 0.75, 1])
        losses[name] = [
            evaluate(apply(ordered, s.edit(ordered.architecture, "t")).module(), "lm", data).values["loss"]
            for s in levels
        ]
    assert losses["best"][0] < losses["worst"][0] and losses["best"][1] < losses["worst"][1]
    assert losses["best"][2] == pytest.approx(losses["worst"][2], rel=1e-5)


def test_allocation_of_tied_axes_cuts_them_alike():
    checkpoint = tiny("t5")
    arch = checkpoint.architecture
    axes = unit_axes(arch, ["ffn", "heads"])
    generator = torch.Generator().manual_seed(0)
    scores = {axis: torch.rand(arch.size[axis], generator=generator).tolist() for axis in axes}
    edit = order_edit(arch, scores)
    nesting = nesting_of(arch, ["ffn", "heads"], [0.5, 1])
    from archtool.transforms.units import joined

    rows = reordered(orders(edit), joined(arch, scores))
    found, levels = allocated_levels(nesting, fraction_levels(nesting, arch, [0.5, 1]), arch, rows, [0.5, 1])
    counts = dict(levels[0].counts)
    assert all(counts[a] == counts[b] for a, group in alike(arch).items() if a in counts for b in group)
    small = apply(apply(checkpoint, edit), levels[0].edit(arch, "t")).architecture
    assert block_parameters(small) <= 0.5 * block_parameters(arch)
    assert found.sizes.keys() == nesting.sizes.keys()
