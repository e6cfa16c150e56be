"""``extract`` on nested models: budgets, fronts, slices, and that what is written is the parent's own part."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from archtool.cli import main
from archtool.data import DataSpec, calibration, load_data
from archtool.evaluate import evaluate
from archtool.ir.nesting import Nesting, Submodel
from archtool.model.apply import apply
from archtool.model.costs import costs
from archtool.model.load import load
from archtool.model.masked import masked_parent
from archtool.model.preset import built
from archtool.model.save import planned_size, save
from archtool.model.views import Family
from archtool.transforms.nesting import nesting_of
from tests.model.tiny import inputs, tiny

VIT = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=8, patch_size=4,
           num_channels=1, hidden_act="gelu", num_labels=10, initializer_range=0.3,
           architectures=["ViTForImageClassification"])  # fmt: skip
DIGITS = ("--data", "sklearn:digits", "--set", "data.limit=60", "--threads", 1)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv):
        code = main.run([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def nested_folder(checkpoint, kinds=("ffn", "heads", "depth"), levels=(0.5, 1.0)):
    folder = Path("nested")
    folder.mkdir()
    save(replace(checkpoint, nesting=nesting_of(checkpoint.architecture, kinds, levels)), folder)
    return folder


def measured(folder, submodel, split="val"):
    data = load_data(DataSpec(source="sklearn:digits", task="image-classification", split=split, limit=60))
    checkpoint = load(folder)
    small = apply(checkpoint, submodel.edit(checkpoint.architecture, "t")).module()
    return evaluate(small, "image-classification", data).values["loss"]


def submodel_of(row):
    return Submodel(tuple(row["counts"].items()), tuple(row["skipped"]))


def test_the_best_measured_submodel_within_several_budgets(call):
    folder = nested_folder(built("vit", VIT, 0), ("ffn", "depth"), (0.3, 1.0))
    budget = "params=0.75x,macs=0.8x,size=0.8x"
    code, out, err = call("extract", folder, "--budget", budget, *DIGITS, "--search", "brute", "--out", "r", "--json")
    assert code == 0, err
    found = json.loads(out)
    whole, small = costs(load(folder)), load(Path("r/model"))
    now = costs(small)
    assert now["parameters"] <= 0.75 * whole["parameters"] and now["macs"] <= 0.8 * whole["macs"]
    assert planned_size(small) == Path("r/model/model.safetensors").stat().st_size <= 0.8 * whole["size_bytes"]
    rows = found["records"]["search"]["candidates"]
    assert {"chosen", "parent", "matformer"} <= {row["role"] for row in rows}
    limits = {"parameters": 0.75, "macs": 0.8, "size_bytes": 0.8}
    fits = [r for r in rows if all(r["costs"][m] <= share * whole[m] for m, share in limits.items())]
    (chosen,) = [row for row in rows if row["role"] == "chosen"]
    assert chosen["quality"] == min(row["quality"] for row in fits) and len({r["name"] for r in rows}) == 14
    assert chosen["costs"]["parameters"] == now["parameters"] and "matformer" in err
    told = json.loads(Path("r/metrics.json").read_text())
    assert told["search"]["quality_name"] == "loss" and "Candidates" in Path("r/report.html").read_text()
    assert all(check["met"] for check in found["records"]["budgets"])


def test_losses_are_those_of_the_submodels_on_held_out_examples(call):
    folder = nested_folder(built("vit", VIT, 1))
    argv = ("--front", "--points", 4, "--evaluations", 16, *DIGITS, "--out", "r", "--quiet")
    assert call("extract", folder, *argv)[0] == 0
    table = json.loads(Path("r/front.json").read_text())
    assert table["loss"] == "loss" and len(table["rows"]) >= 4
    for row in table["rows"][:4]:
        assert row["loss"] == pytest.approx(measured(folder, submodel_of(row)), rel=1e-6)
    front = [row for row in table["rows"] if row["role"] == "front"]
    ends = [(row["parameters"], row["loss"]) for row in front]
    assert ends == sorted(ends) and [v for _, v in ends] == sorted((v for _, v in ends), reverse=True)
    with open("r/front.csv", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in table["rows"]]
    assert {row["role"] for row in table["rows"]} == {"front", "uniform", "matformer"}


def test_the_front_as_folders_and_as_a_slicing_table_that_reads_back(call):
    folder = nested_folder(built("vit", VIT, 0))
    argv = ("--front-models", "--points", 3, "--evaluations", 14, *DIGITS, "--write-slices", "table.csv", "--out", "r")
    assert call("extract", folder, *argv, "--quiet")[0] == 0
    rows = [row for row in json.loads(Path("r/front.json").read_text())["rows"] if row["role"] == "front"]
    assert sorted(p.name for p in Path("r/front").iterdir()) == sorted(row["name"] for row in rows)
    assert not Path("r/model").exists()
    for i, row in enumerate(rows):
        assert costs(load(Path("r/front") / row["name"]))["parameters"] == row["parameters"]
        argv = ("--slice", row["name"], "--slices", "table.csv", "--out", f"s{i}", "--quiet")
        assert call("extract", folder, *argv)[0] == 0
        mine, theirs = Path(f"s{i}/model/model.safetensors"), Path("r/front") / row["name"] / "model.safetensors"
        assert mine.read_bytes() == theirs.read_bytes()


def test_an_interrupted_extraction_measures_nothing_twice(call, monkeypatch):
    from archtool.run import submodels

    folder = nested_folder(built("vit", VIT, 0))
    argv = ("extract", folder, "--budget", "params=0.8x", "--evaluations", 14, *DIGITS, "--json", "--quiet")
    real, asked = submodels.Losses._measured, []

    def counted(self, picks):
        asked.append(picks)
        if len(asked) == 9:
            raise KeyboardInterrupt
        return real(self, picks)

    monkeypatch.setattr(submodels.Losses, "_measured", counted)
    assert call(*argv, "--out", "r")[0] == 130
    first = asked[:8]
    code, out, _ = call(*argv, "--out", "r")
    assert code == 0 and not {*first} & {*asked[9:]}
    monkeypatch.setattr(submodels.Losses, "_measured", real)
    again = json.loads(call(*argv, "--out", "whole")[1])
    assert json.loads(out)["run"]["hash"] == again["run"]["hash"]
    assert json.loads(out)["records"]["search"] == again["records"]["search"]


CHILD = """
import sys, torch
from archtool.model.load import load
feed, expected = torch.load(sys.argv[2])
with torch.no_grad():
    made = load(sys.argv[1]).module()(**feed)
print(max(float((made[n] - v).abs().max()) for n, v in expected.items()))
"""


@pytest.mark.parametrize("family", ["vit", "bert", "llama"])
def test_what_is_written_is_the_parent_on_views_and_the_masked_parent(call, family):
    """Per-layer mixed widths, kv groups and a skipped block; from a slicing table, reloaded in a fresh process."""
    checkpoint = tiny(family)
    folder = nested_folder(checkpoint, ("ffn", "heads", "depth"), (0.3, 0.5, 1.0))
    heads = checkpoint.architecture.size["b0.attn.kv"]
    others = json.dumps({"b0.attn.kv": 1, "b2.attn.kv": heads // 2 or 1}).replace('"', '""')
    gone = 1 if "b1" in load(folder).nesting.depth else 2
    left = [b for b in ("b0", "b1", "b2") if b != f"b{gone}"]
    Path("t.csv").write_text(
        f'name,FFN Hidden Dims,Layers Skipped,Other Sizes\nsmall,"[12, 20]","[{gone}]","{others}"\n'
    )
    assert call("extract", folder, "--slice", "small", "--slices", "t.csv", "--out", "r", "--quiet")[0] == 0
    counts = {a: sizes[-1] for a, sizes in load(folder).nesting.levels}
    counts |= {f"{left[0]}.ffn.hidden": 12, f"{left[1]}.ffn.hidden": 20}
    counts |= {"b0.attn.kv": 1, "b2.attn.kv": heads // 2 or 1}
    submodel = Submodel(tuple(counts.items()), (f"b{gone}",))
    small, feed, parent = load(Path("r/model")), inputs(checkpoint), load(folder)
    with torch.no_grad(), Family(parent.module(), parent.nesting).member(submodel).running() as view:
        expected = view(**feed)
    with torch.no_grad():
        made = small.module()(**feed)
        masked = masked_parent(parent.module(), submodel.edit(parent.architecture, "t"))(**feed)
    for name, value in expected.items():
        assert (made[name] - value).abs().max() <= 1e-6 * value.abs().max()
        if made[name].shape == masked[name].shape:
            assert torch.allclose(made[name], masked[name], atol=1e-5, rtol=1e-5)
    assert Path("r/model/model.safetensors").stat().st_size == planned_size(small)
    assert costs(small)["parameters"] == sum(p.numel() for p in small.module().parameters())
    torch.save((feed, dict(expected)), "feed.pt")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "r/model", "feed.pt"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) <= 1e-6 * max(float(v.abs().max()) for v in expected.values())


def test_positions_decide_where_nothing_is_known(call):
    folder = nested_folder(built("vit", VIT, 0), ("ffn",), (0.25, 0.5, 0.75, 1.0))
    code, out, err = call("extract", folder, "--budget", "params=0.8x", "--out", "a", "--json", "--quiet")
    assert code == 0, err
    found = load(Path("a/model")).architecture.size
    widths = [found[f"b{i}.ffn.hidden"] for i in range(3)]
    assert widths == sorted(widths) and len(set(widths)) <= 2
    assert "without data no submodel was measured" in json.dumps(json.loads(out)["records"]["notes"])
    (folder / "nesting.json").unlink()
    code, out, err = call("extract", folder, "--budget", "params=0.8x", "--out", "b", "--json", "--quiet")
    assert code == 0 and "the same share of every axis" in json.dumps(json.loads(out)["records"]["notes"])
    found = load(Path("b/model")).architecture.size
    assert len({found[f"b{i}.ffn.hidden"] for i in range(3)}) == 1
    argv = ("--levels", "0.25,0.5,1", "--units", "ffn", *DIGITS, "--out", "c", "--json", "--quiet")
    code, out, err = call("extract", folder, "--budget", "params=0.8x", *argv)
    assert code == 0 and len(json.loads(out)["records"]["search"]["candidates"]) >= 27, err


def test_wrong_wishes_are_refused(call):
    folder = nested_folder(built("vit", VIT, 0), ("ffn",))
    code, _, err = call("extract", folder, "--budget", "params=0.1x", *DIGITS, "--out", "x")
    assert code == 6 and "The nearest feasible: params=" in err and not Path("x").exists()
    code, _, err = call("extract", folder, "--front", "--out", "x")
    assert code == 2 and "the front needs measured losses" in err
    code, _, err = call("extract", folder, "--out", "x")
    assert code == 2 and "nothing says what to extract" in err
    code, _, err = call("extract", folder, "--slice", "a", "--out", "x")
    assert code == 2 and "belong together" in err
    code, _, err = call("extract", folder, "--units", "heads", "--budget", "params=0.9x", *DIGITS, "--out", "x")
    assert code == 2 and "nothing of heads that may change is nested" in err
    Path("t.csv").write_text('name,FFN Hidden Dims\na,"[7, 32, 32]"\n')
    code, _, err = call("extract", folder, "--slice", "a", "--slices", "t.csv", "--out", "x")
    assert code == 4 and "cannot be 7 long" in err
    code, _, err = call("extract", folder, "--budget", "params=0.9x", "--evaluations", 3, *DIGITS, "--out", "x")
    assert code == 2 and "too few" in err


def test_protected_blocks_stay(call):
    folder = nested_folder(built("vit", VIT, 0))
    argv = ("--budget", "params=0.9x", "--protect", "b1", "--evaluations", 14, *DIGITS, "--out", "r", "--quiet")
    code, _, err = call("extract", folder, *argv)
    assert code == 0, err
    found = load(Path("r/model"))
    assert found.architecture.size["b1.ffn.hidden"] == 32 and found.architecture.size["b1.attn.kv"] == 4


def test_embeddings_are_compared_by_their_cosine(tmp_path):
    from archtool.run.submodels import Remembered, _loss_of

    data = load_data(DataSpec(source="sklearn:digits", task="image-classification", limit=40))
    assert _loss_of(data) == ("image-classification", "loss")
    unlabelled = load_data(DataSpec(source="sklearn:digits", task="image-classification", limit=40, labelled=False))
    assert _loss_of(unlabelled) == ("agreement", "kl")
    checkpoint = built("vit", VIT, 0)
    module = checkpoint.module()
    kept = Remembered(module, calibration(unlabelled, 40), "cpu")
    for _ in range(2):
        found = evaluate(module, "agreement", calibration(unlabelled, 40), parent=kept)
        assert found.values == {"kl": 0.0, "top1_match": 1.0}
    nesting = Nesting((("b0.ffn.hidden", (8, 32)),))
    with Family(module, nesting).member(Submodel((("b0.ffn.hidden", 8),))).running() as small:
        cut = evaluate(small, "agreement", calibration(unlabelled, 40), parent=kept)
    both = evaluate(
        apply(checkpoint, Submodel((("b0.ffn.hidden", 8),)).edit(checkpoint.architecture, "t")).module(),
        "agreement", calibration(unlabelled, 40), parent=module,
    )  # fmt: skip
    assert cut.values["kl"] == pytest.approx(both.values["kl"], rel=1e-5) and cut.values["kl"] > 0
