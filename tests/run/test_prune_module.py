"""``prune`` on modules of a Python file: budgets, criteria, traps of torch-pruning, the loader without archtool."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archtool.cli import main
from archtool.measure.foreign import costs, example_inputs
from archtool.model.foreign import Foreign, called, load_pruned, serialised
from archtool.transforms.modules.criteria import mean_loss, scores
from archtool.transforms.modules.graph import trace
from archtool.transforms.modules.groups import disagreement, exact_groups, removal
from archtool.transforms.modules.masks import masked
from archtool.transforms.modules.slices import sliced
from tests.run import foreign_modules

FILE = Path(foreign_modules.__file__)
SHAPES = {
    "cnn": "2x3x8x8", "mlp": "2x10", "encoder": "2x5x16", "block": "2x5x16", "separate": "2x5x16",
    "zero_last": "2x3x8x8", "gpt2": "input_ids:int64<50:2x8",
}  # fmt: skip


@pytest.fixture
def prune(tmp_path, capsys):
    """Run the command on a function of the file; its JSON and the folder."""

    def run(function, *words, code=0, name="out", model=None):
        argv = ["prune", model or f"{FILE}:{function}", "--out", str(tmp_path / name), "--json", "-q"]
        if function in SHAPES and "--example-input" not in words:
            argv += ["--example-input", SHAPES[function]]
        assert main.run([*argv, *map(str, words)]) == code
        said = capsys.readouterr()
        return (json.loads(said.out), tmp_path / name) if not code else said.err

    return run


def traced(function):
    module, inputs = getattr(foreign_modules, function)().eval(), example_inputs([SHAPES[function]])
    graph = trace(module, inputs)
    return module, inputs, graph, *exact_groups(graph, inputs, ())


@pytest.mark.parametrize("function", SHAPES)
def test_every_kind_meets_its_budget_and_equals_the_masked_module(function, prune):
    found, out = prune(function, "--budget", "params=0.8x,macs=0.95x")
    before = found["records"]["parent"]["costs"]
    assert found["parameters"] <= 0.8 * before["parameters"] and found["macs"] <= 0.95 * before["macs"]
    assert all(check["met"] for check in found["records"]["budgets"])
    whole = getattr(foreign_modules, function)().eval()
    small = load_pruned(getattr(foreign_modules, function), out / "model")
    assert sum(p.numel() for p in small.parameters()) == found["parameters"]
    assert (out / "model" / "model.safetensors").stat().st_size == found["size_bytes"]
    # the masked module, written here once more from the file that says what was removed
    (cuts,) = json.loads((out / "model" / "pruned.json").read_text())["removed"]
    conv1d = {name for name, part in whole.named_modules() if type(part).__name__ == "Conv1D"}
    with torch.no_grad():
        for cut in cuts:
            part, index = whole.get_submodule(cut["part"]), cut["removed"]
            rows = (cut["side"] == "in") != (cut["part"] in conv1d) and not isinstance(part, torch.nn.BatchNorm2d)
            if rows:
                part.weight[:, index] = 0
            else:
                part.weight[index] = 0
            if cut["side"] != "in" and part.bias is not None:
                part.bias[index] = 0
        inputs = example_inputs([SHAPES[function]], seed=5)
        expected, got = called(whole)(**inputs), called(small)(**inputs)
    assert set(expected) == set(got)
    assert all(torch.allclose(expected[k], got[k], atol=1e-5) for k in got)


def test_residuals_concatenations_and_heads_are_groups():
    *_, groups, _ = traced("cnn")
    assert {g.name: len(g.units) for g in groups}["blocks.1.second"] == 12
    *_, groups, left = traced("block")
    assert sorted((g.kind, len(g.units)) for g in groups) == [("channels", 32)] * 2 + [("heads", 4)] * 2
    *_, groups, left = traced("gpt2")
    assert sorted({g.kind for g in groups}) == ["channels", "heads"]
    assert any("one tensor" in why for name, why in left if name == "lm_head")


@pytest.mark.parametrize("function", SHAPES)
def test_all_groups_down_to_one_unit_still_run_and_equal_the_mask(function):
    """A ranking that would empty a layer leaves one unit of it; nothing stays whole without a word."""
    module, inputs, graph, groups, left = traced(function)
    assert len(groups) + len(left) == len(graph.roots())
    gone = {g.name: range(1, len(g.units)) for g in groups}
    assert disagreement(graph, module, groups, gone, inputs) == ""
    small = sliced(module, graph, *removal(graph, groups, gone))
    assert costs(small, inputs)["parameters"] < costs(module, inputs)["parameters"]


def test_conv1d_is_cut_and_not_a_silent_no_op():
    import torch_pruning as tp

    module, inputs, graph, groups, _ = traced("gpt2")
    plain = tp.DependencyGraph().build_dependency(
        graph.module, dict(inputs), forward_fn=lambda m, x: list(called(m)(**x).values()), verbose=False
    )
    reached = {plain._module2name.get(dep.target.module) for g in plain.get_all_groups() for dep, _ in g}
    assert not any("mlp" in str(name) for name in reached)  # what torch-pruning does by itself
    removed = {g.name: [0] for g in groups}
    small = sliced(module, graph, *removal(graph, groups, removed))
    assert small.transformer.h[0].mlp.c_fc.weight.shape == (16, 63) and small.transformer.h[0].attn.num_heads == 3
    assert small.transformer.h[0].attn.split_size == 12
    assert small.lm_head.weight is small.transformer.wte.weight


def test_a_cached_width_is_found_out(prune):
    said = prune("secretive", "--budget", "params=0.9x", "--example-input", "1x5x16", "--protect", "up", code=4)
    assert "attn.projections.0 stays whole: it does not run afterwards" in said and "up is protected" in said


def test_statistics_of_a_layernorm_are_found_out(prune):
    said = prune("normed", "--budget", "params=0.9x", "--example-input", "2x8", code=4)
    assert "something else than the module with zeros" in said


def test_trained_zeros_do_not_hide_a_mistake():
    """Groups are tried on perturbed weights: on these a wrong cut of a dead branch shows."""
    module, inputs, graph, groups, _ = traced("zero_last")
    group = next(g for g in groups if g.name == "blocks.0.first")
    broken = type(group)(group.name, "channels", tuple(unit[:1] for unit in group.units))
    assert disagreement(graph, module, [broken], {broken.name: [0]}, inputs) != ""


def test_the_mask_does_not_use_the_slicer():
    module, _, graph, groups, _ = traced("mlp")
    cuts, _ = removal(graph, groups, {"0": [3], "2": [1, 2]})
    zero = masked(module, cuts)
    assert not zero[0].weight[3].any() and not zero[0].bias[3] and not zero[2].weight[:, 3].any()
    assert not zero[2].weight[1:3].any() and not zero[4].weight[:, 1:3].any()
    changed = sum(int((a != b).sum()) for a, b in zip(zero.parameters(), module.parameters(), strict=True))
    assert changed == 10 + 1 + 24 + 2 * 32 + 2 + 3 * 2 - 2  # the crossing of row and column counts once


def test_scores_are_exact_slopes_of_a_mask():
    """Against a mask multiplied onto what the second layer reads."""
    module, _, _, groups, _ = traced("mlp")
    group = next(g for g in groups if g.name == "0")
    mask = torch.ones(32, requires_grad=True)
    hook = module[1].register_forward_hook(lambda part, given, out: out * mask)
    slopes = [torch.autograd.grad(loss, mask)[0] for loss in foreign_modules.losses(module)]
    hook.remove()
    wanted = torch.stack(slopes).double()
    taylor = scores(module, [group], "taylor", foreign_modules.losses)["0"]
    fisher = scores(module, [group], "fisher", foreign_modules.losses)["0"]
    assert torch.allclose(torch.tensor(taylor, dtype=torch.float64), wanted.mean(0).abs(), rtol=1e-4, atol=1e-8)
    assert torch.allclose(torch.tensor(fisher, dtype=torch.float64), wanted.square().mean(0), rtol=1e-4, atol=1e-12)
    magnitude = scores(module, [group], "magnitude")["0"]
    row = module[0].weight[5].square().sum() + module[0].bias[5] ** 2 + module[2].weight[:, 5].square().sum()
    assert magnitude[5] == pytest.approx(float(row.detach()), rel=1e-5)


def trained():
    """A small network that knows the sign of a sum, with more units than it needs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = foreign_modules.mlp()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(150):
            x = torch.randn(64, 10)
            loss = torch.nn.functional.cross_entropy(module(x), (x.sum(1) > 0).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return module.eval()


def test_losses_choose_better_than_chance(monkeypatch):
    module, inputs = trained(), example_inputs(["2x10"])
    graph = trace(module, inputs)
    groups, _ = exact_groups(graph, inputs, ())
    left = {}
    for criterion in ("taylor", "fisher", "magnitude", "random"):
        found = []
        for seed in range(5 if criterion == "random" else 1):
            scored = scores(module, groups, criterion, foreign_modules.losses, seed)
            gone = {n: sorted(range(len(s)), key=lambda i, s=s: s[i])[: 2 * len(s) // 3] for n, s in scored.items()}
            found.append(mean_loss(sliced(module, graph, *removal(graph, groups, gone)), foreign_modules.losses))
        left[criterion] = sum(found) / len(found)
    assert left["fisher"] < left["random"] and left["magnitude"] < left["random"]


def test_losses_are_measured_and_the_run_repeats(prune):
    words = ("--budget", "params=0.5x", "--criterion", "fisher", "--loss", f"{FILE}:losses")
    first, out = prune("mlp", *words)
    again, _ = prune("mlp", *words, name="again")
    assert first["run"]["hash"] == again["run"]["hash"]
    small = load_pruned(foreign_modules.mlp, out / "model")
    assert first["loss"] == pytest.approx(mean_loss(small, foreign_modules.losses), rel=1e-6)
    before = first["records"]["parent"]["metrics"]["loss"]["value"]
    assert before == pytest.approx(mean_loss(foreign_modules.mlp().eval(), foreign_modules.losses), rel=1e-6)


def test_a_pruned_folder_is_pruned_again(prune):
    first, out = prune("gpt2", "--budget", "params=0.8x")
    second, out2 = prune("gpt2", "--budget", "params=0.8x", model=str(out / "model"), name="second")
    assert second["parameters"] <= 0.8 * first["parameters"]
    small = load_pruned(foreign_modules.gpt2, out2 / "model")
    assert sum(p.numel() for p in small.parameters()) == second["parameters"]
    assert len(json.loads((out2 / "model" / "pruned.json").read_text())["removed"]) == 2


def test_the_folder_loads_without_archtool(prune, tmp_path):
    found, out = prune("cnn", "--budget", "size=0.6x")
    code = f"""
import sys
sys.modules["archtool"] = None
sys.path[:0] = [{str(out / "model")!r}, {str(FILE.parent)!r}]
import torch
from load_pruned import load_pruned
from foreign_modules import cnn
module = load_pruned(cnn, {str(out / "model")!r})
assert "torch_pruning" not in sys.modules
print(sum(p.numel() for p in module.parameters()), float(module(torch.ones(1, 3, 8, 8)).sum()))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parameters, total = done.stdout.split()
    assert int(parameters) == found["parameters"]
    small = load_pruned(foreign_modules.cnn, out / "model")
    assert float(total) == pytest.approx(float(small(torch.ones(1, 3, 8, 8)).sum().detach()), rel=1e-4)


@pytest.mark.reload_check
def test_runs_compare_in_a_fresh_process_and_verify_finds_damage(prune, capsys):
    _, out = prune("mlp", "--budget", "params=0.6x")
    (verified,) = json.loads((out / "verified.json").read_text())
    assert verified["dialect"] == "module" and verified["max_abs_diff"] <= 1e-6
    weights = out / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-40:] = b"\x3f" * 40
    weights.write_bytes(bytes(content))
    assert main.run(["verify", str(out)]) == 8


def test_latency_is_measured_and_met(prune):
    found, _ = prune("mlp", "--budget", "latency=1s", "--threads", 1)
    assert found["latency_ms"] <= 1000 and found["records"]["budgets"][0]["met"]
    assert {t["name"] for t in found["records"]["latency"][0]["timings"]} == {"parent", "child"}


def test_protected_parts_stay(prune):
    found, out = prune("block", "--budget", "params=0.9x", "--protect", "0.up", "--protect", "*.attn")
    small = load_pruned(foreign_modules.block, out / "model")
    assert small[0].up.out_features == 32 and small[1].up.out_features < 32
    assert small[1].attn.num_heads == 4
    guarded = {n["what"] for n in found["records"]["notes"] if "is protected" in n["reason"]}
    assert guarded == {"0.up", "0.attn.projections.0", "1.attn.projections.0", "1.down"}


def test_widths_are_rounded(prune):
    _, out = prune("mlp", "--budget", "params=0.6x", "--multiple", 4)
    small = load_pruned(foreign_modules.mlp, out / "model")
    assert small[0].out_features % 4 == 0 and small[2].out_features % 4 == 0


def test_what_a_report_says(prune):
    _, out = prune("cnn", "--budget", "params=0.7x")
    rows = json.loads((out / "metrics.json").read_text())["layers"]
    assert {"blocks.0.first", "blocks.1.first"} <= {row["block"] for row in rows}
    assert all(row["structure"] == "channels" and row["kept"] < row["original"] for row in rows)
    assert "load_pruned" in (out / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("function", "words", "code", "said"),
    [
        ("mlp", (), 2, "needs a budget"),
        ("mlp", ("--budget", "params=0.5x", "--example-input", "wide"), 2, "is no shape"),
        ("mlp", ("--budget", "params=0.5x", "--example-input", "x:float31:2x10"), 2, "is no shape"),
        ("mlp", ("--budget", "params=0.5x", "--example-input", "2x11"), 4, "does not run on the example input"),
        ("normed", ("--budget", "params=0.5x"), 2, "needs an example of its input"),
        ("mlp", ("--budget", "params=0.0001x"), 6, "nearest feasible"),
        ("mlp", ("--budget", "memory=0.5x"), 2, "memory"),
        ("mlp", ("--budget", "params=0.5x", "--criterion", "taylor"), 2, "needs losses"),
        (
            "mlp",
            ("--budget", "params=0.5x", "--criterion", "taylor", "--loss", f"{FILE}:no_losses"),
            4,
            "yields nothing",
        ),
        ("mlp", ("--budget", "params=0.5x", "--loss", f"{FILE}:lossez"), 2, "did you mean losses"),
        ("mlp", ("--budget", "params=0.5x", "--units", "ffn"), 2, "--units is not for modules"),
        ("mlp", ("--budget", "params=0.5x", "--protect", "decoder.*"), 2, "matches no part"),
        ("mlq", ("--budget", "params=0.5x", "--example-input", "1x10"), 2, "no function 'mlq'"),
        ("not_a_module", ("--budget", "params=0.5x", "--example-input", "1x10"), 4, "not a torch.nn.Module"),
        ("failing", ("--budget", "params=0.5x", "--example-input", "1x10"), 4, "RuntimeError: no weights here"),
        ("recurrent", ("--budget", "params=0.5x", "--example-input", "1x5x8"), 4, "no linear layer or convolution"),
    ],
)
def test_bad_input(function, words, code, said, prune):
    assert said in prune(function, *words, code=code)


def test_other_steps_take_no_module(tmp_path, capsys):
    model = f"{FILE}:mlp"
    assert main.run(["quantize", model, "--scheme", "w8", "--out", str(tmp_path / "out")]) == 2
    assert "takes no module" in capsys.readouterr().err
    words = ["prune", model, "--example-input", "2x10", "--budget", "params=0.5x", "--recover", "steps=1"]
    assert main.run([*words, "--out", str(tmp_path / "out2")]) == 2
    assert "`recover` takes no module" in capsys.readouterr().err


def test_example_inputs_are_read():
    made = example_inputs(["2x3", "int64<7:4", "mask:bool:1x2"])
    assert {k: (tuple(v.shape), v.dtype) for k, v in made.items()} == {
        "0": ((2, 3), torch.float32), "1": ((4,), torch.int64), "mask": ((1, 2), torch.bool)
    }  # fmt: skip
    assert int(made["1"].max()) < 7
    assert torch.equal(example_inputs([f"{FILE}:example"])["0"], torch.ones(2, 10))
    assert len(serialised(Foreign(f"{FILE}:mlp").module())) > 4 * 32 * 24
