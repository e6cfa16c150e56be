"""Learning from another model: through the command line, and each loss on its own."""

import json
from pathlib import Path

import pytest
import torch
from train_models import same_bits, settings, tensors, text_data, tiny_llama

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
POOLFORMER = ("image_size=8", "num_channels=1", "num_labels=10")


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


def test_another_family_teaches_by_logits_and_hidden_states():
    from archtool.data import DataSpec, load_data

    data = load_data(DataSpec("sklearn:digits", split="train", limit=64))
    student, parent = build_model("vit-digits", 0), build_model("poolformer-s12", 0)
    assert student.architecture.family != parent.architecture.family
    with pytest.raises(InputError, match="attention with queries"):
        terms_of({"attention": 1.0}, data.task, student.architecture, lesson(parent), LossSettings())


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
