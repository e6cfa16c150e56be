"""Held-out examples: the best weights, early stopping, the journal, and the same after an interruption."""

import json

import pytest
from train_models import Stop, same_bits, settings, text_data, tiny_llama

from archtool.data import DataSpec, load_data
from archtool.errors import InputError, UsageError
from archtool.evaluate import evaluate
from archtool.train.history import FILE
from archtool.train.run import distillation, train
from archtool.train.validate import Validation, metric_of, split_off


class Broken(Exception):
    pass


def broken():
    raise Broken


def judged(**changes):
    """Settings under which the model begins to overfit."""
    overfitting = {"steps": 40, "batch_size": 16, "lr": 0.1, "schedule": "constant"}
    return settings(**{**overfitting, "validation": 0.3, "validation_steps": 2, **changes})


def test_the_parts_are_disjoint_seeded_and_whole(tmp_path):
    data = text_data(tmp_path)
    kept, validation = split_off(data, judged())
    rows = sorted([*kept.rows.tolist(), *validation.data.rows.tolist()])
    assert rows == sorted(data.rows.tolist()) and len(validation.data) == round(0.3 * len(data))
    again, other = split_off(data, judged())[1], split_off(data, judged(seed=1))[1]
    assert again.data.rows.tolist() == validation.data.rows.tolist() != other.data.rows.tolist()
    assert split_off(data, settings()) == (data, None) and (validation.metric, validation.higher) == ("loss", False)
    with pytest.raises(InputError, match="cannot be held out"):
        split_off(data, judged(validation=0.001))


def test_the_best_weights_are_the_result(tmp_path):
    data = text_data(tmp_path)
    trained, record = train(tiny_llama(), data, judged())
    values = dict(record.validation)
    assert record.steps == 40 and list(values) == list(range(2, 41, 2))
    assert values[record.best_step] == min(values.values()) and record.best_step < 40
    held = split_off(data, judged())[1].data
    assert evaluate(trained.module(), "lm", held)["loss"] == pytest.approx(values[record.best_step], rel=1e-5)


def test_a_run_stops_when_patience_ends(tmp_path):
    data = text_data(tmp_path)
    whole = train(tiny_llama(), data, judged())[1]
    _, record = train(tiny_llama(), data, judged(patience=3))
    assert record.steps == record.best_step + 6 < 40
    assert record.validation == whole.validation[: len(record.validation)]


@pytest.mark.parametrize("after", [5, 14])
def test_an_interrupted_run_ends_alike(tmp_path, after):
    data, how = text_data(tmp_path), judged(patience=3, save_steps=3)
    whole, first = train(tiny_llama(), data, how)
    with pytest.raises(Broken):
        train(tiny_llama(), data, how, work=tmp_path, progress=Stop(after, broken))
    resumed, second = train(tiny_llama(), data, how, work=tmp_path)
    assert 0 < second.resumed_at < after and same_bits(whole, resumed)
    assert (second.validation, second.best_step, second.steps) == (first.validation, first.best_step, first.steps)
    rows = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    measured = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
    assert tuple(measured) == first.validation and [r["step"] for r in rows if "loss" in r] == list(
        range(1, first.steps + 1)
    )


def test_progress_says_the_metric(tmp_path):
    notes = []

    class Notes(Stop):
        def advance(self, n=1, note=""):
            notes.append(note)

    train(tiny_llama(), text_data(tmp_path), judged(steps=4), progress=Notes(0, None))
    assert notes[1].startswith("loss ") and notes[1].count("loss") == 1 and notes[2].count("loss") == 2


def test_the_metric_follows_from_the_data(tmp_path):
    digits = load_data(DataSpec("sklearn:digits", limit=40))
    assert metric_of(digits) == ("accuracy", True)
    unlabelled = load_data(DataSpec("sklearn:digits", task="image-classification", labelled=False, limit=40))
    assert metric_of(unlabelled) == ("loss", False)


def test_without_labels_the_objective_judges(tmp_path):
    from archtool.config.preset import build_model

    data = load_data(DataSpec("sklearn:digits", task="image-classification", labelled=False, limit=40))
    parent, student = build_model("vit-digits", 0), build_model("vit-digits", 1)
    how = settings(steps=4, batch_size=8, validation=0.25, validation_steps=2)
    _, record = train(student, data, how, terms=[distillation(parent)])
    assert len(record.validation) == 2 and all(value > 0 for _, value in record.validation)


def test_equal_values_keep_the_first_and_count_against_patience():
    validation = Validation(None, "accuracy", True, 1, 2)
    module = tiny_llama().module()
    for step, value in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6)):
        assert not validation.exhausted()
        validation.note(step, value, module)
    assert validation.best_step == 2 and validation.exhausted()


def test_settings_are_checked():
    for bad in ({"validation": 1.0}, {"validation": -0.1}, {"patience": 3}):
        with pytest.raises(UsageError):
            settings(**bad)
