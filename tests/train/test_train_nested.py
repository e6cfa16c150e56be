"""Nested training: sub-networks on views, the rules by which they are drawn, and what a run says of them."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_models
from train_models import Stop, same_bits, settings, text_data, tiny_llama

from archtool.errors import InputError, UsageError
from archtool.ir.nesting import Nesting, full, uniform
from archtool.model.views import Family
from archtool.train.feed import Feed
from archtool.train.history import FILE
from archtool.train.losses import Lesson, LossSettings, terms_of
from archtool.train.objectives.base import Term, WeightedSum, task_loss
from archtool.train.objectives.nested import Nested, split
from archtool.train.objectives.teacher import live
from archtool.train.run import train
from archtool.train.sampling import Sampling, axis_groups, drawn, draws, fairness, mix
from archtool.transforms.nesting import nesting_of
from tests.model.tiny import tiny

REPO = Path(__file__).resolve().parents[2]
RULES = ("all", "random", "sandwich", "in-batch", "mixed")
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def nested_llama(kinds=("ffn", "heads", "depth")):
    checkpoint = tiny_llama()
    return replace(checkpoint, nesting=nesting_of(checkpoint.architecture, kinds, QUARTERS))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients(module):
    return {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}


class Broken(Exception):
    pass


def broken():
    raise Broken


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_visits_every_level_of_every_axis(rule):
    arch = tiny("llama").architecture
    nesting = nesting_of(arch, ("ffn", "heads", "depth"), QUARTERS)
    groups, generator = axis_groups(nesting, arch), rng()
    lines = [
        drawn(nesting, draw, 1.0) for _ in range(200) for draw in draws(nesting, groups, Sampling(rule), generator)
    ]
    found = fairness(nesting, lines)
    passes = {"all": 4, "random": 1, "sandwich": 4, "in-batch": 2, "mixed": 1}[rule]
    assert len(lines) == 200 * passes
    for axis, times in found["drawn"].items():
        assert sum(times.values()) == len(lines) and min(times.values()) > 0, axis
    assert sum(found["skipped"].values()) == len(lines) and min(found["skipped"].values()) > 0
    if rule == "all":
        assert found["level_losses"] == dict.fromkeys("0123", 1.0)
    if rule == "random":
        share = Counter(line["level"] for line in lines)
        assert all(25 <= share[level] <= 75 for level in range(4))
    if rule == "sandwich":
        assert [line.get("level") for line in lines[:4]] == [3, 0, None, None]
    if rule in ("in-batch", "mixed"):
        assert set(found["level_losses"]) == set() and found["mixed_loss"] == 1.0
        assert len({tuple(line["levels"]) for line in lines}) > 50


def test_draws_are_those_of_their_seed():
    arch = tiny("llama").architecture
    nesting = nesting_of(arch, ("ffn", "heads"), QUARTERS)
    groups = axis_groups(nesting, arch)

    def series(seed):
        generator = rng(seed)
        return [mix(nesting, groups, generator) for _ in range(20)]

    assert series(1) == series(1) != series(2)


def test_tied_axes_are_drawn_together():
    arch = tiny("t5").architecture
    nesting = nesting_of(arch, ("heads",), (0.25, 0.5, 1.0))
    groups = axis_groups(nesting, arch)
    assert ("e0.attn.kv", "e1.attn.kv", "e2.attn.kv") in groups
    family, generator = Family(tiny("t5").module(), nesting), rng()
    for _ in range(20):
        drawn_one = mix(nesting, groups, generator)
        family.member(drawn_one)
        counts = dict(drawn_one.counts)
        assert counts["e0.attn.kv"] == counts["e2.attn.kv"]
    with pytest.raises(InputError, match="share a tensor"):
        Family(tiny("t5").module(), Nesting((("e0.attn.kv", (2, 4)),)))


def test_gradients_of_all_granularities_add_up(tmp_path):
    checkpoint, data = nested_llama(), text_data(tmp_path)
    batch = Feed(data, 5, 0).batch(0)
    module = checkpoint.module().train()
    nested = Nested(Family(module, checkpoint.nesting), Sampling("all"), [Term("task", 1.0, task_loss("lm"))])
    for made in nested.passes(module, batch, rng()):
        made.losses["loss"].backward()
    together = gradients(module)
    total = {name: 0 for name in together}
    for level in range(checkpoint.nesting.granularities):
        module.zero_grad()
        with Family(module, checkpoint.nesting).member(uniform(checkpoint.nesting, level)).running():
            WeightedSum([Term("task", 1.0, task_loss("lm"))])(module, batch, rng())["loss"].backward()
        for name, g in gradients(module).items():
            total[name] = total[name] + (0 if g is None else g)
    assert all(torch.allclose(together[name], total[name], rtol=1e-5, atol=1e-7) for name in together)


def test_only_the_largest_learns_the_task_under_the_sandwich_rule(tmp_path):
    """The others get the largest's outputs as targets: where they equal these, there is nothing to learn."""
    checkpoint, data = nested_llama(("ffn",)), text_data(tmp_path)
    whole = replace(checkpoint, nesting=Nesting(tuple((a, s[-1:]) for a, s in checkpoint.nesting.levels)))
    batch, module = Feed(data, 5, 0).batch(0), whole.module().train()
    task = Term("task", 1.0, task_loss("lm"))
    nested = Nested(Family(module, whole.nesting), Sampling("sandwich"), [task])
    losses = []
    for made in nested.passes(module, batch, rng()):
        module.zero_grad()
        made.losses["loss"].backward()
        losses.append(
            (float(made.losses["loss"].detach()), float(sum(p.grad.abs().sum() for p in module.parameters())))
        )
    alone = float(WeightedSum([task])(module, batch, rng())["loss"].detach())
    assert losses[0][0] == alone and losses[0][1] > 1
    assert all(abs(loss) < 1e-6 and gradient < 1e-3 for loss, gradient in losses[1:])


def test_the_parts_of_a_batch_are_the_batch(tmp_path):
    batch = Feed(text_data(tmp_path), 5, 0).batch(0)
    parts = list(split(batch, 3))
    assert [len(part.positions) for part in parts] == [1, 2, 2]
    assert torch.equal(torch.cat([p.inputs["input_ids"] for p in parts]), batch.inputs["input_ids"])
    assert torch.equal(torch.cat([p.targets["next_ids"] for p in parts]), batch.targets["next_ids"])
    assert len(list(split(batch, 9))) == 5


def test_in_batch_gradients_are_those_of_the_whole_batch_where_all_run_whole(tmp_path):
    checkpoint, data = nested_llama(("ffn",)), text_data(tmp_path)
    whole = replace(checkpoint, nesting=Nesting(tuple((a, s[-1:]) for a, s in checkpoint.nesting.levels)))
    batch, module = Feed(data, 6, 0).batch(0), whole.module().train()
    task = [Term("task", 1.0, task_loss("lm"))]
    for made in Nested(Family(module, whole.nesting), Sampling("in-batch", 3), task).passes(module, batch, rng()):
        made.losses["loss"].backward()
    parts = gradients(module)
    module.zero_grad()
    WeightedSum(task)(module, batch, rng())["loss"].backward()
    assert all(torch.allclose(parts[n], g, rtol=1e-4, atol=1e-6) for n, g in gradients(module).items())


@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_nested_run_ends_with_the_same_bits(tmp_path, rule):
    data, checkpoint = text_data(tmp_path), nested_llama()
    whole, record = train(checkpoint, data, settings(), sampling=Sampling(rule))
    again, _ = train(checkpoint, data, settings(seed=1), sampling=Sampling(rule))
    with pytest.raises(Broken):
        train(checkpoint, data, settings(), sampling=Sampling(rule), work=tmp_path, progress=Stop(7, broken))
    resumed, second = train(checkpoint, data, settings(), sampling=Sampling(rule), work=tmp_path)
    assert second.resumed_at == 6
    assert same_bits(whole, resumed) and not same_bits(whole, again)
    assert second.passes == record.passes and second.curve == record.curve
    assert resumed.nesting == checkpoint.nesting
    rows = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert len(rows) == 12 and all(len(row["passes"]) == len(rows[0]["passes"]) for row in rows)


def test_a_model_that_is_not_nested_has_no_submodels(tmp_path):
    with pytest.raises(InputError, match="not nested"):
        train(tiny_llama(), text_data(tmp_path), settings(), sampling=Sampling())
    for wrong in (dict(rule="some"), dict(draws=0), dict(temperature=0.0)):
        with pytest.raises(UsageError):
            Sampling(**wrong)


def test_the_module_is_whole_again_after_a_pass_that_fails():
    checkpoint = nested_llama()
    module = checkpoint.module()
    before, arch = dict(module.named_parameters()), module.architecture
    with pytest.raises(Broken), Family(module, checkpoint.nesting).member(uniform(checkpoint.nesting, 0)).running():
        assert len(module.architecture.blocks) < len(arch.blocks)
        raise Broken
    after = dict(module.named_parameters())
    assert after.keys() == before.keys() and all(after[n] is p for n, p in before.items())
    assert module.architecture is arch
    assert full(checkpoint.nesting).skipped == ()
    assert train_models.LLAMA["config"]["num_hidden_layers"] == len(arch.stage("s0"))


def taught(checkpoint, weights):
    lesson = Lesson(live(checkpoint), checkpoint.architecture)
    return terms_of(weights, "lm", checkpoint.architecture, lesson, LossSettings())


def test_submodels_learn_from_a_teacher_by_every_loss_and_resume(tmp_path):
    data, checkpoint = text_data(tmp_path), nested_llama(("ffn", "heads"))
    weights = {"task": 1.0, "kl": 1.0, "hidden": 0.1, "attention": 0.1}
    whole, record = train(checkpoint, data, settings(), terms=taught(checkpoint, weights), sampling=Sampling("all"))
    with pytest.raises(Broken):
        train(
            checkpoint, data, settings(), terms=taught(checkpoint, weights), sampling=Sampling("all"), work=tmp_path,
            progress=Stop(7, broken),
        )  # fmt: skip
    resumed, second = train(
        checkpoint, data, settings(), terms=taught(checkpoint, weights), sampling=Sampling("all"), work=tmp_path
    )
    assert second.resumed_at == 6 and same_bits(whole, resumed) and second.passes == record.passes


def test_recomputed_activations_give_the_same_bits(tmp_path):
    data, checkpoint = text_data(tmp_path), nested_llama()
    kept, _ = train(checkpoint, data, settings(), sampling=Sampling("all"))
    again, _ = train(checkpoint, data, settings(checkpointing=True), sampling=Sampling("all"))
    assert same_bits(kept, again)


def test_a_run_is_not_continued_with_another_rule_or_nesting(tmp_path):
    data, checkpoint = text_data(tmp_path), nested_llama(("ffn",))
    with pytest.raises(Broken):
        train(checkpoint, data, settings(), sampling=Sampling("all"), work=tmp_path, progress=Stop(7, broken))
    with pytest.raises(UsageError, match="another training run"):
        train(checkpoint, data, settings(), sampling=Sampling("random"), work=tmp_path)
    with pytest.raises(UsageError, match="another training run"):
        train(nested_llama(("heads",)), data, settings(), sampling=Sampling("all"), work=tmp_path)


def test_losses_that_look_at_what_submodels_have_not_are_refused(tmp_path):
    data = text_data(tmp_path)
    for kinds, losses, named in (
        (("depth",), {"attention": 1.0}, "submodels skip"),
        (("width",), {"hidden": 1.0}, "one width"),
    ):
        checkpoint = nested_llama(kinds)
        if kinds == ("depth",):
            checkpoint = replace(checkpoint, nesting=Nesting((), ("b1",)))
        with pytest.raises(UsageError, match=named):
            train(checkpoint, data, settings(), terms=taught(checkpoint, losses), sampling=Sampling())


PROCESS = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import torch
from train_models import settings, tensors, text_data, tiny_llama
from archtool.train.run import train
from archtool.train.sampling import Sampling
from archtool.transforms.nesting import nesting_of

torch.set_num_threads(1)
rank, here = os.environ["RANK"], Path(sys.argv[1])
(here / rank).mkdir()
start = tiny_llama()
nested = replace(start, nesting=nesting_of(start.architecture, ("ffn", "heads", "depth"), (0.25, 0.5, 0.75, 1.0)))
trained, result = train(nested, text_data(here / rank), settings(batch_size=8), sampling=Sampling("sandwich"))
total = float(sum(t.double().abs().sum() for t in tensors(trained).values()))
(here / f"{rank}.json").write_text(json.dumps([result.loss, total, result.passes]))
"""


def test_two_processes_train_the_submodels_that_one_does(tmp_path):
    (tmp_path / "process.py").write_text(PROCESS)
    paths = os.pathsep.join(map(str, (REPO, REPO / "tests" / "train")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(tmp_path / "process.py"), str(tmp_path)], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (loss, total, passes), other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [loss, total, passes] == other
    _, alone = train(nested_llama(), text_data(tmp_path), settings(batch_size=8), sampling=Sampling("sandwich"))
    assert abs(loss - alone.loss) < 0.01 * alone.loss
    assert passes["nested"]["drawn"] == alone.passes["nested"]["drawn"]
