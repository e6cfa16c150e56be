"""Stored teachers: replayed augmentation, the distribution that comes back, disk bytes, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_models import settings, text_data, tiny_llama

from archtool.config.preset import build_model
from archtool.data import DataSpec, load_data
from archtool.errors import InputError, UsageError
from archtool.model.load import load
from archtool.train.augment import Augment
from archtool.train.draws import example_seeds
from archtool.train.feed import Feed
from archtool.train.losses import Lesson, LossSettings, terms_of
from archtool.train.objectives.base import WeightedSum
from archtool.train.objectives.teacher import LiveTeacher, live, weights_hash
from archtool.train.run import train
from archtool.train.store import StoredTeacher, TeachPlan, completed, write_store

AUGMENT = Augment(shift=1, flip=True, mixup=0.5)


def digits(limit=24):
    return load_data(DataSpec("sklearn:digits", split="train", limit=limit))


def stored(folder, parent, data, augment=AUGMENT, **plan):
    list(write_store(folder, parent.module(), weights_hash(parent), data, augment, TeachPlan(**plan)))
    return StoredTeacher(folder)


def test_the_augmentation_that_the_teacher_saw_is_replayed_to_the_bit(tmp_path):
    data, parent = digits(), build_model("vit-digits", 0)
    store = stored(tmp_path / "s", parent, data, passes=2, kept=10, batch_size=24, seed=5)
    seen = []
    module = parent.module()
    module.register_forward_pre_hook(lambda m, a, inputs: seen.append(inputs["pixel_values"]), with_kwargs=True)
    list(write_store(tmp_path / "t", module, "", data, AUGMENT, TeachPlan(2, 10, 24, 5)))
    teacher_saw = dict(enumerate(torch.cat(seen[1:])))  # the first is a probe
    feed = Feed(data, 6, seed=99)  # another order, other batches
    for number in range(8):
        batch = feed.batch(number)
        replayed = AUGMENT(batch, store.seeds(batch), feed).inputs["pixel_values"]
        for image, number_of_pass, position in zip(replayed, batch.passes, batch.positions, strict=True):
            assert torch.equal(image, teacher_saw[int(number_of_pass) * len(data) + int(position)])


@pytest.mark.parametrize("name", ["kl", "hard", "distillation"])
def test_all_classes_equal_live_distillation(tmp_path, name):
    data, parent, student = digits(), build_model("vit-digits", 0), build_model("vit-digits", 1)
    store = stored(tmp_path, parent, data, passes=2, kept=1000, batch_size=8)
    feed, module = Feed(data, 8, seed=3), student.module()
    for number in range(6):
        batch = feed.batch(number)
        batch = AUGMENT(batch, store.seeds(batch), feed)
        losses = [
            float(WeightedSum(terms_of({name: 1.0}, data.task, student.architecture, taught, LossSettings()))(
                module, batch, torch.Generator()
            )["loss"].detach())
            for taught in (Lesson(store=store), Lesson(live(parent), parent.architecture))
        ]  # fmt: skip
        assert losses[0] == pytest.approx(losses[1], abs=1e-7, rel=1e-6) and losses[0] > 0


def test_a_whole_training_from_a_store_equals_the_live_one(tmp_path):
    data, parent, student = digits(), build_model("vit-digits", 0), build_model("vit-digits", 1)
    store = stored(tmp_path, parent, data, passes=2, kept=10, batch_size=8, seed=0)
    how = settings(steps=6, batch_size=8, lr=1e-3, save_steps=0)

    def losses(lesson, seeds):
        terms = terms_of({"kl": 1.0}, data.task, student.architecture, lesson, LossSettings())
        return [loss for _, loss in train(student, data, how, terms=terms, augment=AUGMENT, seeds=seeds)[1].curve]

    assert losses(Lesson(store=store), store.seeds) == pytest.approx(
        losses(Lesson(live(parent), parent.architecture), None), rel=1e-5
    )


def test_what_is_left_is_spread_over_the_other_classes():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    values, indices = logits.topk(2, -1)
    found = torch.softmax(completed(values, indices, logits.logsumexp(-1), 7), -1)
    p = torch.softmax(logits, -1)
    top = p.gather(-1, indices)
    expected = ((1 - top.sum(-1, keepdim=True)) / 5).expand(2, 3, 7).scatter(-1, indices, top)
    assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(found.sum(-1), torch.ones(2, 3))
    assert torch.equal(completed(*logits.topk(7, -1), logits.logsumexp(-1), 7), logits)


def test_disk_bytes_are_as_predicted(tmp_path):
    data, parent = text_data(tmp_path), tiny_llama()
    store = stored(tmp_path / "s", parent, data, passes=2, kept=3, augment=Augment())
    spec, n, t = store.spec, len(data), 16
    assert spec.disk_bytes() == 2 * n * (8 + t * (4 + 3 * 6)) + 4 * 128
    assert sum(file.stat().st_size for file in (tmp_path / "s").glob("*.npy")) == spec.disk_bytes()
    assert (spec.passes, spec.examples, spec.positions, spec.kept, spec.classes) == (2, n, t, 3, 32)


def test_language_models_learn_from_a_store(tmp_path):
    data, parent = text_data(tmp_path), tiny_llama(seed=1)
    parent, _ = train(parent, data, settings(steps=30, batch_size=16))
    store = stored(tmp_path / "s", parent, data, kept=8, augment=Augment())
    terms = terms_of({"kl": 1.0}, "lm", parent.architecture, Lesson(store=store), LossSettings(temperature=1.0))
    _, record = train(tiny_llama(), data, settings(steps=40, batch_size=16), terms=terms, seeds=store.seeds)
    assert record.loss < 0.5 * record.curve[0][1]


def test_later_passes_begin_again(tmp_path):
    data, parent = digits(8), build_model("vit-digits", 0)
    store = stored(tmp_path, parent, data, passes=2)
    feed = Feed(data, 8, 0)
    first, third = feed.batch(0), feed.batch(2)
    order = {int(p): i for i, p in enumerate(third.positions)}
    rows = [order[int(p)] for p in first.positions]
    assert np.array_equal(store.seeds(first), store.seeds(third)[rows])
    assert torch.equal(store.outputs(first)["logits"], store.outputs(third)["logits"][rows])
    assert not np.array_equal(store.seeds(feed.batch(1)), store.seeds(third))
    assert np.array_equal(store.seeds(first), example_seeds(0, first))


def test_other_data_augmentation_or_teacher_are_refused(tmp_path):
    data, parent = digits(), build_model("vit-digits", 0)
    store = stored(tmp_path, parent, data)
    store.check(data, AUGMENT, weights_hash(parent))
    for mine, word in (
        ((digits(20), AUGMENT), "another data"),
        ((data, replace(AUGMENT, shift=2)), "another augmentation: shift 1, flip True, mixup 0.5"),
        ((data, AUGMENT, weights_hash(build_model("vit-digits", 1))), "another teacher"),
    ):
        with pytest.raises(UsageError, match=word):
            store.check(*mine)
    with pytest.raises(UsageError, match="needs more than stored logits"):
        terms_of({"hidden": 1.0}, data.task, parent.architecture, Lesson(store=store), LossSettings())


def test_damaged_and_unfit_stores_are_refused(tmp_path):
    data, parent = digits(), build_model("vit-digits", 0)
    with pytest.raises(InputError, match="is no store"):
        StoredTeacher(tmp_path)
    stored(tmp_path, parent, data)
    whole = (tmp_path / "values.npy").read_bytes()
    (tmp_path / "values.npy").write_bytes(whole[:200])
    with pytest.raises(InputError, match=r"values.npy cannot be read"):
        StoredTeacher(tmp_path)
    (tmp_path / "values.npy").write_bytes((tmp_path / "normalisers.npy").read_bytes())
    with pytest.raises(InputError, match=r"values.npy holds"):
        StoredTeacher(tmp_path)
    with pytest.raises(InputError, match="a stored teacher needs logits"):
        stored(
            tmp_path / "x", type("P", (), {"module": lambda self: Silent(), "architecture": 1, "weights": {}})(), data
        )


class Silent(torch.nn.Module):
    def forward(self, pixel_values):
        return {"hidden": pixel_values}


def test_a_live_teacher_remembers_one_batch():
    parent, feed, calls = build_model("vit-digits", 0).module(), Feed(digits(8), 4, 0), []
    parent.register_forward_hook(lambda *values: calls.append(1))
    teacher, one, two = LiveTeacher(parent), feed.batch(0), feed.batch(1)
    assert torch.equal(teacher.outputs(one)["logits"], teacher.outputs(one)["logits"]) and len(calls) == 1
    assert not torch.equal(teacher.outputs(one)["logits"], teacher.outputs(two)["logits"]) and len(calls) == 2


def test_teach_and_learn_from_the_command_line(call):
    data = ("--data", "sklearn:digits", "--set", "data.limit=60", "--threads", 1, "--quiet", "--json")
    assert call("build", "vit-digits", "--seed", 5, "--out", "large")[0] == 0
    assert call("build", "vit-digits", "--out", "small")[0] == 0
    code, out, err = call("teach", "large", *data, "--passes", 2, "--top-k", 4, "--shift", 1, "--out", "taught")
    assert code == 0, err
    found = json.loads(out)
    n = found["records"]["teach"]["examples"]
    assert found["teacher_bytes"] == 2 * n * (8 + 4 + 4 * 6) + 512 and not Path("taught/model").exists()
    again = json.loads(call("teach", "large", *data, "--passes", 2, "--top-k", 4, "--shift", 1, "--out", "taught")[1])
    assert again["run"]["cached"]
    learn = ("train", "small", *data, "--steps", 5, "--batch-size", 16, "--teacher-store", "taught/teacher")
    code, out, err = call(*learn, "--shift", 1, "--task-weight", 0, "--out", "learned")
    assert code == 0 and json.loads(out)["train_loss"] > 0, err
    code, _, err = call(*learn, "--out", "refused")
    assert code == 2 and "another augmentation: shift 1" in err
    code, _, err = call(*learn, "--shift", 1, "--teacher", "small", "--out", "refused")
    assert code == 2 and "another teacher" in err
    code, out, err = call(*learn, "--shift", 1, "--teacher", "large", "--out", "both")
    assert code == 0 and load(Path("both/model")).architecture.family == "vit", err
    code, _, err = call(*learn, "--shift", 1, "--set", "steps.0.train.losses={hidden: 1}", "--out", "refused")
    assert code == 2 and "more than stored logits" in err
    code, out, _ = call("teach", "large", *data[:-2], "--dry-run", "--out", "dry")
    assert code == 0 and not Path("dry/teacher").exists()
