"""Recipes, flags, budgets, data and outputs that are wrong, through the real command line."""

import json
import os
from pathlib import Path

import pytest

from archtool.run.folder import RunDir
from tests.bad_input.conftest import LM, rewrite, tree

PRUNE = ("--budget", "params=0.8x")

RECIPES = {
    "two typos": (
        "model: model\nsteps:\n- prune: {budgt: params=0.5x}\n- quantise: {scheme: w8}\n",
        ["r.yaml:3:11", "did you mean `budget`?", "r.yaml:4:3", "did you mean `quantize`?", "| - prune: {budgt"],
    ),
    "data key": (
        "model: model\ndata: {path: t.txt, colums: {text: a}}\nsteps: [{prune: {blocks: 1}}]\n",
        ["unknown option `colums` in `data`", "r.yaml:2:21", "did you mean `columns`?"],
    ),
    "data value": (
        "model: model\ndata:\n  path: t.txt\n  limit: few\nsteps: [{prune: {blocks: 1}}]\n",
        ["`limit` must be a valid integer", "not 'few'", "r.yaml:4:10"],
    ),
    "task": ("model: model\ntask: lmm\nsteps: [eval]\n", ["no task 'lmm'", "r.yaml:2:7", "did you mean lm?"]),
    "device": ("model: model\ndevice: cudda\nsteps: [eval]\n", ["'cudda' is no device", "r.yaml:2:9", "cuda:1"]),
    "top level": ("modl: model\nsteps: [eval]\n", ["unknown option `modl`", "r.yaml:1:1", "did you mean `model`?"]),
    "budget": (
        "model: model\nsteps:\n- prune: {budget: params=0.5y}\n",
        ["unknown unit `y`", "r.yaml:3:26", "params=0.5x or params=20M"],
    ),
    "type": ("model: model\nsteps:\n- prune: {blocks: two}\n", ["`blocks` must be", "'two'", "r.yaml:3:19"]),
    "syntax": ("model: model\nsteps:\n- prune: {budget: params=0.5x\n", ["not valid YAML", "r.yaml:4:1"]),
    "empty": ("", ["this is not a recipe"]),
    "not text": (b"\xff\xfe\x00", ["r.yaml is not UTF-8 text"]),
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes(place, case):
    text, parts = RECIPES[case]
    place.model()
    (place.folder / "r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    place.fails(3, ["run", "r.yaml"], *parts)
    place.fails(3, ["recipes", "validate", "r.yaml", "--json"], *parts)


FLAGS = {
    "command": (2, "purne model", ["no such command `purne`", "did you mean `prune`?"]),
    "option": (2, "prune model --budgt x", ["no such option: --budgt", "did you mean --budget"]),
    "no model": (2, "prune", ["missing argument 'MODEL'"]),
    "no budget": (2, "prune model", ["prune needs a budget", "--budget params=0.5x"]),
    "budget": (2, "prune model --budget abc", ["`abc` is not a budget term", "--> --budget:1:1"]),
    "budget kind": (2, "prune model --budget prams=0.5x", ["unknown budget `prams`", "did you mean `params`?"]),
    "budget growth": (2, "prune model --budget params=2x", ["asks for growth"]),
    "budget sign": (2, "prune model --budget params=-1", ["a budget must be above 0"]),
    "budget unit": (2, "prune model --budget size=3", ["`size=3` needs a unit"]),
    "budget twice": (2, "prune model --budget params=1k,params=2k", ["limited twice"]),
    "criterion": (2, "prune model --budget params=0.5x --criterion magnitud", ["did you mean `magnitude`?"]),
    "units": (2, "prune model --budget params=0.5x --units fnn", ["unknown unit kind 'fnn'", "did you mean `ffn`?"]),
    "extract units": (2, "extract model --budget params=0.5x --units head", ["did you mean `heads`?"]),
    "scheme": (2, "quantize model --scheme int8", ["'int8' is not a scheme", "w4g32-asym"]),
    "bits": (2, "quantize model --scheme w3", ["3-bit weights are not supported", "8 or 4"]),
    "activations": (2, "quantize model --scheme w8a8", ["activations stay floating point"]),
    "group": (2, "quantize model --scheme w4g7", ["groups of 7 columns", "power of two"]),
    "protect": (2, "quantize model --protect b9", ["'b9' matches no block", "Blocks are embed, b0, b1"]),
    "protect tensor": (2, "prune model --blocks 1 --protect b0.attn.w.weight", ["did you mean b0.attn."]),
    "blocks": (2, "prune model --blocks 3", ["cannot drop 3 of 3 blocks"]),
    "set typo": (2, "prune model --set steps.0.prune.budgt=1", ["did you mean `budget`?", "--> --set:1:15"]),
    "set step": (2, "prune model --set steps.0.prun.budget=1", ["step 0 has no `prun`", "did you mean `prune`?"]),
    "set top": (2, "prune model --blocks 1 --set sed=1", ["did you mean `seed`?"]),
    "set nothing": (2, "prune model --blocks 1 --set seed", ["--set needs path=value"]),
    "seed": (2, "prune model --blocks 1 --seed -1", ["`seed` must be greater than or equal to 0"]),
    "dtype": (2, "prune model --blocks 1 --dtype fp31", ["`dtype: fp31` is not supported; choose 'fp32'"]),
    "device": (2, "prune model --blocks 1 --device cudda", ["'cudda' is no device"]),
    "gate": (2, "prune model --blocks 1 --require parameters", ["is not a quality gate"]),
    "no data": (2, "eval model", ["eval needs data", "--data FILE"]),
    "diff": (2, "inspect model --diff", ["--diff compares two models"]),
    "names": (3, "prune model --blocks 1 --names no.yaml", ["cannot read no.yaml"]),
    "recipe": (3, "run no.yaml", ["no recipe file or shipped recipe `no.yaml`"]),
    "report": (4, "report model", ["model is not a finished run"]),
    "infeasible prune": (6, "prune model --budget params=0.01x", ["nearest feasible: params=5904"]),
    "infeasible extract": (6, "extract model --budget params=10", ["nearest feasible: params=8496"]),
    "infeasible quantize": (6, "quantize model --budget size=1kB", ["w8 does not reach the budget", "size=25392"]),
    "everything protected": (6, "prune model --budget params=0.8x --protect b*", ["nearest feasible: params=16920"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAGS)
def test_flags(place, case):
    code, words, parts = FLAGS[case]
    place.model()
    place.fails(code, words.split(), *parts)


def test_a_failed_gate_keeps_the_result(place):
    found = place.run("prune", place.model(), *PRUNE, "--require", "parameters<=10", "--json", "--out", "run")
    assert found.code == 7 and json.loads(found.out)["parameters"] == 13464
    found.says("parameters is 13464, required <= 10")
    assert (place.folder / "run" / "model" / "model.safetensors").exists()


DATA = {
    "no file": (4, "llama", "no.txt", None, LM, ["no.txt: no such file or folder"]),
    "model as data": (4, "llama", "model", None, LM, ["model: no data in this folder"]),
    "empty": (4, "llama", "t.txt", "", LM, ["t.txt: no rows"]),
    "foreign letters": (4, "llama", "t.txt", "hello wörld", LM, ["character 'ö' (line 1"]),
    "no tokenizer": (4, "llama", "t.txt", "hello", ("--task", "lm"), ["no tokenizer"]),
    "vocabulary": (
        4, "llama", "t.txt", "hello there" * 9, ("--task", "lm", "--set", "data.preprocess.tokenizer=bytes"),
        ["the data holds token 116; the model's vocabulary has 61 entries"],
    ),
    "length": (4, "bert", "t.txt", "hello there " * 30, LM, ["256 tokens in one sequence; the model has 32 positions"]),
    "task and data": (4, "llama", "t.txt", "hello", ("--task", "similarity"), ["cannot be read from running text"]),
    "task": (2, "llama", "t.txt", "hello", ("--task", "lmm"), ["no task 'lmm'", "did you mean lm?"]),
    "no rows": (4, "bert", "x.csv", "text,label\n", (), ["x.csv: no rows", "header and nothing below"]),
    "no columns": (2, "bert", "x.csv", "a,b\n1,2\n", (), ["cannot tell the task from the columns a, b"]),
    "columns": (4, "bert", "x.csv", "a,b\n1,2\n", ("--task", "text-classification"), ["no column 'text'", "a, b"]),
    "mapping": (
        4, "bert", "x.csv", "a,b\n1,2\n", ("--task", "text-classification", "--columns", "text=aa,label=b"),
        ["no column 'aa' for text", "the columns are a, b"],
    ),
    "built-in": (2, "vit", "sklearn:digts", None, (), ["no built-in data set 'sklearn:digts'"]),
    "channels": (4, "vit", "sklearn:digits", None, (), ["1 x 8 x 8", "takes 3 x 8 x 8", "preprocess.channels=3"]),
    "data key": (2, "llama", "t.txt", "hello", (*LM, "--set", "data.limt=3"), ["did you mean `limit`?"]),
    "data value": (2, "llama", "t.txt", "hello", (*LM, "--set", "data.limit=x"), ["`limit` must be a valid integer"]),
    "preprocess key": (3, "llama", "t.txt", "hello", (*LM, "--set", "data.preprocess.lenght=3"), ["mean length?"]),
    "preprocess value": (3, "llama", "t.txt", "hello", (*LM, "--set", "data.preprocess.length=x"), ["length is 'x'"]),
    "device": (5, "llama", "t.txt", "hello " * 9, (*LM, "--device", "cuda:9"), ["device cuda:9 is not usable here"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_data(place, case):
    code, family, name, content, flags, parts = DATA[case]
    place.model(family)
    if content is not None:
        (place.folder / name).write_text(content)
    place.fails(code, ["eval", "model", "--data", name, *flags], *parts)
    place.fails(code, ["prune", "model", *PRUNE, "--data", name, *flags], *parts)


def test_a_bad_score_names_its_line(place):
    from tests.data.data_files import tokenizer_folder

    tokenizer_folder(place.model("bert"))
    (place.folder / "x.csv").write_text("sentence1,sentence2,score\na,b,1.0\nc,d,high\n")
    place.fails(4, ["eval", "model", "--data", "x.csv"], "x.csv, line 3: score 'high'", "--> ", "x.csv:3:")


def test_a_loss_that_is_not_finite_is_no_result(place):
    rewrite(place.model(), lambda t: t["model.norm.weight"].fill_(float("nan")))
    (place.folder / "t.txt").write_text("hello there " * 9)
    place.fails(4, ["eval", "model", "--data", "t.txt", *LM], "the loss is not finite at example 0", "NaN")


def test_outputs_in_the_way(place):
    place.model()
    (place.folder / "file").write_text("x")
    (place.folder / "full").mkdir()
    (place.folder / "full" / "thesis.txt").write_text("precious")
    prune = ["prune", "model", *PRUNE, "--out"]
    place.fails(5, [*prune, "file"], "a file is in the way")
    place.fails(5, [*prune, "file/deeper"], "a file is in the way")
    place.fails(2, [*prune, "full"], "not empty and not a run of archtool")
    place.fails(2, [*prune, "full", "--force"], "not a run of archtool")
    place.fails(2, [*prune, "model"], "lies inside the output")


def test_another_run_needs_force_and_survives_a_failing_one(place):
    place.model()
    assert place.run("prune", "model", *PRUNE, "--out", "run").code == 0
    place.fails(2, ["prune", "model", "--blocks", 1, "--out", "run"], "holds a different run", "steps.0.prune.blocks")
    place.fails(4, ["prune", "nowhere", "--blocks", 1, "--out", "run", "--force"], "nowhere")
    assert place.run("prune", "model", "--blocks", 1, "--out", "run", "--force").code == 0
    assert json.loads((place.folder / "run" / "result.json").read_text())["metrics"]["parameters"] == 12264


def test_a_folder_that_cannot_be_written(place):
    """Permissions stop everybody but root; the kernel's own folder stops root too."""
    place.model()
    locked = place.folder / "locked" if os.geteuid() else Path("/proc")
    locked.mkdir(mode=0o500, exist_ok=True)
    place.fails(5, ["prune", "model", *PRUNE, "--out", locked / "run"], "cannot make the output folder")


def test_json_stays_alone_on_stdout(place):
    place.model()
    (place.folder / "t.txt").write_text("hello there " * 9)
    for words in (
        ["inspect", "model"], ["eval", "model", "--data", "t.txt", *LM], ["prune", "model", *PRUNE, "-v"],
        ["prune", "model", *PRUNE, "--dry-run"], ["quantize", "model", "--scheme", "w4g64"], ["plugins"], ["doctor"],
    ):  # fmt: skip
        found = place.run(*words, "--json")
        assert found.code == 0, found
        json.loads(found.out)


def test_the_same_seed_gives_the_same_bytes(place):
    place.model()
    for out in ("a", "b"):
        assert place.run("prune", "model", *PRUNE, "--seed", 3, "--out", out).code == 0
    assert tree(place.folder / "a" / "model") == tree(place.folder / "b" / "model")
    first, second = (RunDir(place.folder / out).journal.events("done")[0]["hash"] for out in "ab")
    assert first == second
