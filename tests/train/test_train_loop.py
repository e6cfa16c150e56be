import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from train_models import same_bits, settings, tensors, text_data, tiny_llama
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from archtool.config.preset import build_model
from archtool.data import DataSpec, load_data
from archtool.errors import InputError, UsageError
from archtool.evaluate import evaluate
from archtool.ir.encodings import Affine
from archtool.model.lazy import Held
from archtool.train.feed import Feed
from archtool.train.loop import fit
from archtool.train.objectives.base import Term, WeightedSum
from archtool.train.optimizer import optimizers
from archtool.train.run import train
from archtool.train.schedule import lr_factor, run_progress


def test_it_overfits_a_tiny_set(tmp_path):
    data = text_data(tmp_path)
    before = evaluate(tiny_llama().module(), "lm", data).values["loss"]
    trained, record = train(tiny_llama(), data, settings(steps=60, batch_size=16, lr=2e-2))
    after = evaluate(trained.module(), "lm", data).values["loss"]
    assert after < 0.5 < before and record.loss < record.curve[0][1]
    assert record.steps == 60 and record.threads == 1 and record.processes == 1


def test_the_input_checkpoint_is_left_alone(tmp_path):
    checkpoint = tiny_llama()
    before = {name: tensor.clone() for name, tensor in tensors(checkpoint).items()}
    train(checkpoint, text_data(tmp_path), settings(steps=2))
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors(checkpoint).items())


def test_stored_types_are_kept(tmp_path):
    checkpoint = tiny_llama()
    half = {name: Held(tensor.to(torch.bfloat16)) for name, tensor in tensors(checkpoint).items()}
    trained, _ = train(replace(checkpoint, weights=half), text_data(tmp_path), settings(steps=2))
    assert {lazy.dtype for lazy in trained.weights.values()} == {"BF16"}


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_the_schedule_is_that_of_transformers(shape):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    make = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}[shape]
    theirs = make(optimizer, 5, 40).lr_lambdas[0]
    assert [lr_factor(s / 40, 5 / 40, shape) for s in range(41)] == pytest.approx([theirs(s) for s in range(41)])


def test_the_schedule_at_its_ends():
    assert lr_factor(0.5, 0.1, "constant") == lr_factor(1.0, 1.0, "cosine") == 1.0
    stable = [lr_factor(at, 0.1, "wsd") for at in (0.05, 0.1, 0.5, 0.8, 0.9, 1.0)]
    assert stable == pytest.approx([0.5, 1, 1, 1, 0.5, 0])
    assert lr_factor(0.0, 0.0, "cosine") == 1.0 and lr_factor(2.0, 0.1, "linear") == 0.0
    assert run_progress(0, 9, 0.0, None) == 0.1 and run_progress(0, 9, 30.0, 60.0) == 0.5


def test_accumulated_steps_equal_a_larger_batch():
    data = load_data(DataSpec("sklearn:digits", split="train", limit=64))
    ends = [linear(data, settings(steps=6, batch_size=size, accumulate=parts)) for size, parts in ((8, 1), (4, 2))]
    assert torch.allclose(*ends, atol=1e-6) and not torch.allclose(ends[0], torch.zeros(10, 64), atol=1e-3)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, pixel_values):
        return {"logits": self.layer(pixel_values.flatten(1))}


def class_sum(weight=1.0):
    from archtool.train.objectives.classes import class_loss

    return WeightedSum([Term("classes", weight, class_loss)])


def linear(data, how, objective=None):
    module = Linear()
    fit(module, objective or class_sum(), data, how)
    return module.layer.weight.detach()


def test_a_weighted_sum_adds_its_terms_and_reports_each():
    first, second = (lambda o, b: torch.tensor(2.0)), (lambda o, b: torch.tensor(5.0))
    objective = WeightedSum([Term("a", 0.5, first), Term("b", 2.0, second), Term("c", 0.0, None)])
    found = objective(lambda **inputs: {}, type("B", (), {"inputs": {}})(), None)
    assert {name: float(value) for name, value in found.items()} == {"loss": 11.0, "a": 2.0, "b": 5.0}
    with pytest.raises(UsageError, match="every weight is 0"):
        WeightedSum([Term("c", 0.0, first)])


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run(how):
    data = load_data(DataSpec("sklearn:digits", split="train", limit=16))
    calls = []

    def bad(outputs, batch):
        calls.append(1)
        mean = outputs["logits"].mean()
        if len(calls) < 3:
            return mean
        return mean / 0 + float("nan") if how == "loss" else (mean * 0).sqrt()

    with pytest.raises(InputError, match=f"{how} is (nan|inf) in training step 3; the loss before was"):
        linear(data, settings(), WeightedSum([Term("bad", 1.0, bad)]))


def test_wrong_data_is_an_error(tmp_path):
    checkpoint, data = tiny_llama(), text_data(tmp_path)
    digits = load_data(DataSpec("sklearn:digits"))
    with pytest.raises(InputError, match="takes input_ids; image-classification data gives pixel_values"):
        train(checkpoint, digits, settings())
    with pytest.raises(InputError, match="images are 1 x 8 x 8 and the model takes 1 x 28 x 28"):
        train(build_model("vit-fashion", 0), digits, settings())
    with pytest.raises(InputError, match="no rows"):
        train(build_model("vit-digits", 0), digits.select(np.arange(0)), settings())
    small = replace(data, tokenizer=type("T", (), {"vocabulary_size": 50})())
    with pytest.raises(InputError, match="50 ids and the model knows 32"):
        train(checkpoint, small, settings())
    encoded = replace(checkpoint, plan=checkpoint.plan.with_entries({"b0.attn.q.weight": Affine(8)}))
    with pytest.raises(InputError, match=r"b0.attn.q.weight.*cannot be trained"):
        train(encoded, data, settings())


def test_settings_are_checked():
    for bad in (
        {"steps": 0},
        {"steps": None},
        {"lr": 0.0},
        {"warmup": 1.5},
        {"batch_size": 0},
        {"schedule": "x"},
    ):
        with pytest.raises(UsageError):
            settings(**bad)


def test_a_time_limit_ends_a_run(tmp_path):
    begun = time.monotonic()
    _, record = train(tiny_llama(), text_data(tmp_path), settings(steps=None, minutes=0.005))
    assert 1 <= record.steps < 1000 and time.monotonic() - begun < 10


def test_bf16_computes_near_fp32_and_keeps_fp32_weights(tmp_path):
    data = text_data(tmp_path)
    full, half = (train(tiny_llama(), data, settings(precision=p)) for p in ("fp32", "bf16"))
    assert half[1].loss == pytest.approx(full[1].loss, rel=0.05)
    assert not same_bits(full[0], half[0]) and half[0].weights["embed.tokens.token.weight"].dtype == "F32"


def test_only_matrices_decay():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    groups = optimizers({"model": module}, settings(weight_decay=0.3))["adamw"].param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.3), (3, 0.0)]
    with pytest.raises(InputError, match="no tensor that can be trained"):
        optimizers({"model": module.requires_grad_(False)}, settings())


def test_the_stream_of_examples_passes_over_all_and_is_split_among_processes():
    data = load_data(DataSpec("sklearn:digits", limit=10))
    alone = Feed(data, 4, seed=3)
    stream = np.concatenate([alone.places(i)[1] for i in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10)) and list(stream[:10]) != list(stream[10:])
    shared = [Feed(data, 4, 3, rank, 2) for rank in (0, 1)]
    with pytest.raises(UsageError, match="5 examples cannot be split among 2 processes"):
        Feed(data, 5, 3, 0, 2)
    for i in range(5):
        assert list(alone.places(i)[1]) == [*shared[0].places(i)[1], *shared[1].places(i)[1]]
    batch = alone.batch(7)
    assert batch.positions.tolist() == list(alone.places(7)[1]) and batch.inputs["pixel_values"].shape == (
        4,
        1,
        8,
        8,
    )


def test_training_leaves_torch_as_it_was(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(tiny_llama(), text_data(tmp_path), settings(steps=1), threads=2)
    assert torch.equal(torch.rand(1), expected) and torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
