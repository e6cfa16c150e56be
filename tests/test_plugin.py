"""The example plugin: installed as a package, its operator and step go through everything that built-ins do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PLUGIN = REPO / "plugins" / "archtool-example"

USE = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
import archtool
from archtool.cli import main
from archtool.ir.architecture import Layer
from archtool.ir.cost import cost
from archtool.model.build import build
from archtool.model.checkpoint import of_module
from archtool.model.preset import architecture_of
from archtool.model.save import save
from archtool_example.squeeze import SqueezeExcite

torch.set_num_threads(1)
vit = dict(hidden_size=24, intermediate_size=42, num_hidden_layers=2, num_attention_heads=4, image_size=8,
           patch_size=4, num_channels=3, num_labels=4, architectures=["ViTForImageClassification"])
arch, _ = architecture_of("vit", vit)
gate = Layer("se", SqueezeExcite())
blocks = tuple(replace(b, layers=(*b.layers, gate)) if b.stage == "s0" else b for b in arch.blocks)
sizes = (*arch.sizes, *((f"{b.name}.se.hidden", 10) for b in arch.stage("s0")))
arch = replace(arch, family="", blocks=blocks, sizes=sizes)
model = of_module(build(arch, seed=1, std=0.3))
assert cost(arch).parameters == sum(p.numel() for p in model.module().parameters())
Path("parent").mkdir()
save(model, Path("parent"))
feed = {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}
reloaded = archtool.load("parent").module()(**feed)["logits"]
assert torch.equal(reloaded, model.module()(**feed)["logits"])

def run(*argv):
    code = main.run([*argv, "--quiet", "--json"])
    assert code == 0, (argv, code)

run("prune", "parent", "--budget", "params=0.8x", "--units", "ffn", "--out", "pruned")
run("round-widths", "pruned/model", "--multiple", "4", "--out", "rounded")
run("extract", "rounded/model", "--budget", "params=0.9x", "--out", "extracted")
run("quantize", "rounded/model", "--scheme", "w8", "--out", "int8")
parent, pruned = archtool.load("parent"), archtool.load("pruned/model")
rounded, int8 = archtool.load("rounded/model"), archtool.load("int8/model")
widths = [n for axis, n in rounded.architecture.sizes if axis.endswith(".hidden")]
assert widths and not any(n % 4 for n in widths), widths
assert pruned.architecture.size["b0.se.hidden"] < 10
assert cost(pruned.architecture).parameters <= 0.8 * cost(parent.architecture).parameters
assert any(name.endswith("se.squeeze.weight_q") for name in int8.weights)
dense, coded = rounded.module()(**feed)["logits"], int8.module()(**feed)["logits"]
assert (dense - coded).abs().max() < 0.05 * dense.abs().max()
print("used")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The plugin in a folder of its own, as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(PLUGIN), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def python(folder, site, *argv):
    paths = os.pathsep.join([str(site), str(REPO)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_plugin_is_listed(installed, tmp_path):
    done = python(tmp_path, installed, "-m", "archtool.cli.main", "plugins", "--installed", "--json")
    rows = {(r["kind"], r["name"]): r for r in json.loads(done.stdout)}
    for key in (("operators", "example.se"), ("steps", "round-widths")):
        assert rows[key]["package"] == "archtool-example" and rows[key]["error"] == ""


def test_the_plugins_step_is_a_command(installed, tmp_path):
    done = python(tmp_path, installed, "-m", "archtool.cli.main", "round-widths", "--help")
    assert done.returncode == 0 and "--multiple" in done.stdout and "--protect" in done.stdout


def test_the_operator_is_built_pruned_extracted_encoded_and_reloaded(installed, tmp_path):
    done = python(tmp_path, installed, "-c", USE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "used"


def test_without_the_plugin_its_models_are_refused_by_name(installed, tmp_path):
    build = USE.split("feed = ")[0]
    assert python(tmp_path, installed, "-c", build).returncode == 0
    done = python(tmp_path, tmp_path, "-m", "archtool.cli.main", "inspect", "parent")
    assert done.returncode == 4 and "unknown operator 'example.se'" in done.stderr


def test_a_broken_plugin_is_listed_with_its_error(installed, tmp_path):
    (installed / "archtool_example" / "round_widths.py").rename(tmp_path / "kept.py")
    try:
        done = python(tmp_path, installed, "-m", "archtool.cli.main", "plugins", "--installed", "--json")
    finally:
        (tmp_path / "kept.py").rename(installed / "archtool_example" / "round_widths.py")
    rows = {r["name"]: r for r in json.loads(done.stdout)}
    assert "No module named 'archtool_example.round_widths'" in rows["round-widths"]["error"]
    assert rows["example.se"]["error"] == ""
