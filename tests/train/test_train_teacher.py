"""Learning from another model: through the command line, and each loss on its own."""

import json
from pathlib import Path

import pytest
import torch
from train_models import Stop, same_bits, settings, tensors, text_data, tiny_llama

from archtool.config.preset import build_model
from archtool.errors import InputError, UsageError
from archtool.train.losses import LOSSES, Lesson, LossSettings, terms_of
from archtool.train.objectives.teacher import live
from archtool.train.run import train

RECIPE = """
model: {build: vit-digits}
data: {path: "sklearn:digits", limit: 60}
task: image-classification
threads: 1
steps:
  - train: {steps: 4, batch_size: 8, teacher: TEACHER, OPTIONS}
"""


def recipe(options="", teacher="teacher/model"):
    Path("r.yaml").write_text(RECIPE.replace("TEACHER", teacher).replace("OPTIONS", options))
    return "r.yaml"


@pytest.fixture
def taught(call):
    argv = ("--data", "sklearn:digits", "--set", "data.limit=60", "--threads", 1, "--steps", 3, "--quiet")
    assert call("build", "vit-digits", "--seed", 5, "--out", "fresh")[0] == 0
    assert call("train", "fresh", *argv, "--out", "teacher")[0] == 0
    return call


def result(call, out, *options):
    code, printed, err = call("run", recipe(*options), "--out", out, "--json", "--quiet")
    assert code == 0, err
    return json.loads(printed)


def test_a_teacher_from_the_command_line(taught):
    found = result(taught, "one", "losses: {task: 0.5, kl: 1, hard: 0.2, hidden: 0.1, attention: 0.1}, layers: even")
    again = result(taught, "two", "losses: {task: 0.5, kl: 1, hard: 0.2, hidden: 0.1, attention: 0.1}, layers: even")
    other = result(taught, "three", "hard: true")
    assert found["run"]["hash"] == again["run"]["hash"] != other["run"]["hash"]
    assert found["records"]["train"]["steps"] == 4 and found["train_loss"] > 0


def test_the_teachers_content_is_part_of_the_run(taught):
    result(taught, "one")
    assert json.loads(taught("run", "r.yaml", "--out", "one", "--json", "--quiet")[1])["run"]["cached"]
    weights = Path("teacher/model/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, _, err = taught("run", "r.yaml", "--out", "one", "--quiet")
    assert code == 2 and "differs in steps.0.train.teacher" in err


def test_the_path_of_a_teacher_is_found_beside_the_recipe(taught, monkeypatch):
    Path("sub").mkdir()
    Path("sub/r.yaml").write_text(Path(recipe(teacher="../teacher/model")).read_text())
    assert taught("run", "sub/r.yaml", "--out", "one", "--quiet")[0] == 0


def test_mistakes_with_teachers(taught):
    code, _, err = taught("run", recipe(teacher="nowhere"), "--out", "a")
    assert code == 4 and "nowhere is neither a local path" in err
    code, _, err = taught("run", recipe("losses: {klm: 1}"), "--out", "b")
    assert code == 3 and "no loss 'klm'" in err and "kl" in err and "r.yaml:7:" in err
    Path("r.yaml").write_text(RECIPE.replace("teacher: TEACHER, OPTIONS", "losses: {kl: 1}"))
    code, _, err = taught("run", "r.yaml", "--out", "c")
    assert code == 2 and "'kl' needs a teacher" in err and "--teacher" in err
    assert taught("build", "vit-fashion", "--out", "other")[0] == 0
    code, _, err = taught("run", recipe(teacher="other"), "--out", "d")
    assert code == 4 and "1 x 28 x 28" in err
    code, _, err = taught("run", recipe("losses: {kl: -1}"), "--out", "e")
    assert code == 3 and "the weight of kl is -1" in err
    code, _, err = taught("run", recipe("losses: {attention: 1}, relation_heads: 7"), "--out", "f")
    assert code == 4 and "7 relation heads" in err


def lesson(parent):
    return Lesson(live(parent), parent.architecture)


@pytest.mark.parametrize("name", ["kl", "distillation", "hidden", "attention"])
@pytest.mark.parametrize("layers", ["last", "even"])
def test_a_loss_is_zero_with_no_gradient_where_both_are_equal(tmp_path, name, layers):
    from archtool.data.batches import Batches
    from archtool.train.objectives.base import WeightedSum

    student, data = tiny_llama(), text_data(tmp_path)
    terms = terms_of({name: 1.0}, "lm", student.architecture, lesson(tiny_llama()), LossSettings(layers=layers))
    module = student.module().train()
    loss = WeightedSum(terms)(module, next(iter(Batches(data, 4))), torch.Generator())["loss"]
    loss.backward()
    assert abs(float(loss.detach())) < 1e-6
    assert max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None) < 1e-5


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("similarity",)])
def test_each_loss_falls_when_it_is_trained(tmp_path, name):
    data, parent = text_data(tmp_path), tiny_llama(seed=1)
    parent, _ = train(parent, data, settings(steps=20, batch_size=16))
    student = tiny_llama()
    terms = terms_of({name: 1.0}, "lm", student.architecture, lesson(parent), LossSettings(layers="even"))
    _, record = train(student, data, settings(steps=40, batch_size=16), terms=terms)
    assert record.loss < 0.8 * record.curve[0][1]


def test_the_teacher_is_left_as_it_is_and_runs_once_for_all_losses(tmp_path):
    data, parent = text_data(tmp_path), tiny_llama(seed=1)
    before = {name: tensor.clone() for name, tensor in tensors(parent).items()}
    found, calls = lesson(parent), []
    found.model.module.register_forward_hook(lambda *values: calls.append(1))
    student = tiny_llama()
    weights = {"kl": 1.0, "hidden": 1.0, "attention": 1.0, "hard": 0.1}
    terms = terms_of(weights, "lm", student.architecture, found, LossSettings())
    train(student, data, settings(steps=3, accumulate=2), terms=terms)
    assert len(calls) == 6 and all(torch.equal(before[name], tensor) for name, tensor in tensors(parent).items())


GPT2 = {"vocab_size": 32, "n_embd": 24, "n_layer": 3, "n_head": 3, "n_positions": 32, "initializer_range": 0.2}
DEIT = {
    "image_size": 8, "patch_size": 2, "num_channels": 1, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 48, "num_labels": 10,
}  # fmt: skip


def test_another_family_teaches_with_other_widths_heads_and_depth(tmp_path):
    data, student = text_data(tmp_path), tiny_llama()
    parent, _ = train(build_model({"family": "gpt2", "config": GPT2}, 0), data, settings(steps=40, batch_size=16))
    for name in ("kl", "hidden", "attention"):
        terms = terms_of({name: 1.0}, "lm", student.architecture, lesson(parent), LossSettings(layers="even"))
        _, record = train(student, data, settings(steps=40, batch_size=16), terms=terms)
        assert record.loss < 0.8 * record.curve[0][1], name


def test_means_are_matched_where_numbers_of_tokens_differ():
    from archtool.data import DataSpec, load_data
    from archtool.model.capture import streams

    data = load_data(DataSpec("sklearn:digits", split="train", limit=64))
    student, parent = build_model("vit-digits", 0), build_model({"family": "deit", "config": DEIT}, 1)
    assert [place.key for place in streams(parent.architecture)] == ["b0.ffn", "b1.ffn"]
    terms = terms_of({"hidden": 1.0}, data.task, student.architecture, lesson(parent), LossSettings())
    _, record = train(student, data, settings(steps=30, batch_size=16, lr=3e-3), terms=terms)
    assert record.loss < 0.8 * record.curve[0][1]
    terms = terms_of({"attention": 1.0}, data.task, student.architecture, lesson(parent), LossSettings())
    with pytest.raises(InputError, match=r"relations among .* differ in shape"):
        train(student, data, settings(steps=1), terms=terms)
    pool = build_model("poolformer-s12", 0)
    with pytest.raises(InputError, match="the teacher has no attention with queries"):
        terms_of({"attention": 1.0}, data.task, student.architecture, lesson(pool), LossSettings())


def test_relations_do_not_depend_on_how_channels_are_named_or_how_many_there_are():
    from archtool.data.batches import Batch
    from archtool.train.objectives.relations import relation_kl

    generator = torch.Generator().manual_seed(0)
    x, mask = torch.randn(2, 5, 8, generator=generator), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    batch = Batch({"attention_mask": mask}, {}, torch.arange(2))
    turned = x @ torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    wide = torch.cat((x, x), -1) / 2**0.25  # twice the channels, the same scaled products
    for other in (turned, wide):
        assert float(relation_kl(x, other, batch, 1, False)) == pytest.approx(0.0, abs=1e-6)
    changed = x.clone()
    changed[1, 3:] += 1.0  # padding
    assert float(relation_kl(changed, x, batch, 2, False)) == pytest.approx(0.0, abs=1e-6)
    changed[0, 4] += 1.0
    rows = relation_kl(changed, x, batch, 2, True)
    assert float(rows) > 1e-3
    scores = (x[0] @ x[0].T / 8**0.5).softmax(-1)
    other = (changed[0] @ changed[0].T / 8**0.5).softmax(-1)
    single = Batch({}, {}, torch.arange(1))
    expected = (scores * (scores / other).log()).sum(-1).mean()
    assert float(relation_kl(changed[:1], x[:1], single, 1, False)) == pytest.approx(float(expected), rel=1e-4)


def test_layers_are_matched_last_or_evenly():
    from archtool.train.objectives.layers import matched

    assert matched("ab", "wxyz", "last", "x") == (("b", "z"),)
    assert matched("ab", "wxyz", "even", "x") == (("a", "x"), ("b", "z"))
    assert matched("abcd", "xy", "even", "x") == (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))
    with pytest.raises(InputError, match="the teacher has no x"):
        matched("ab", "", "last", "x")


def test_similarities_are_learned_across_widths(tmp_path):
    from archtool.data.batches import Batch
    from archtool.train.objectives.similarity import PairwiseSimilarity
    from archtool.train.objectives.teacher import LiveTeacher

    generator = torch.Generator().manual_seed(0)
    theirs, ours = (torch.randn(3, 4, width, generator=generator) for width in (6, 9))
    batch = Batch({"input_ids": torch.zeros(3, 4)}, {}, torch.arange(3))

    class Parent(torch.nn.Module):
        def forward(self, input_ids):
            return {"hidden": theirs}

    loss = PairwiseSimilarity(LiveTeacher(Parent()))
    unit = [torch.nn.functional.normalize(side.mean(1), dim=-1) for side in (ours, theirs)]
    expected = (unit[0] @ unit[0].T - unit[1] @ unit[1].T).square().mean()
    assert float(loss({"hidden": ours}, batch)) == pytest.approx(float(expected), rel=1e-5)
    assert float(loss({"hidden": theirs}, batch)) == pytest.approx(0.0, abs=1e-7)


def test_an_interrupted_run_with_a_projector_ends_alike(tmp_path):
    data, student = text_data(tmp_path), tiny_llama()

    def learned(**more):
        weights = {"task": 0.5, "kl": 1.0, "hidden": 1.0, "attention": 0.5}
        settled = LossSettings(layers="even")
        terms = terms_of(weights, "lm", student.architecture, lesson(tiny_llama(seed=1)), settled)
        return train(student, data, settings(optimizer="muon", accumulate=2), terms=terms, **more)

    class Broken(Exception):
        pass

    def broken():
        raise Broken

    whole, first = learned()
    with pytest.raises(Broken):
        learned(work=tmp_path, progress=Stop(6, broken))
    state = torch.load(tmp_path / "train-state.pt", weights_only=True)
    named = [f"hidden.{i}.{part}" for i in (0, 1) for part in ("bias", "weight")]
    assert sorted(state["modules"]["objective"]) == named
    resumed, second = learned(work=tmp_path)
    assert second.resumed_at == 4 and same_bits(whole, resumed) and first.curve == second.curve
    assert set(resumed.weights) == set(student.weights)  # the projectors are not part of the model


def test_the_same_bits_again_and_another_teacher_is_another_run(tmp_path):
    data = text_data(tmp_path)
    work = tmp_path / "work"
    work.mkdir()

    def learned(seed, folder=None):
        student = tiny_llama()
        terms = terms_of(
            {"kl": 1.0, "hidden": 1.0}, "lm", student.architecture, lesson(tiny_llama(seed)), LossSettings()
        )
        return train(student, data, settings(steps=4), terms=terms, work=folder)[0]

    assert same_bits(learned(1), learned(1, work)) and not same_bits(learned(1), learned(2))
    with pytest.raises(UsageError, match="another training run"):
        learned(2, work)
