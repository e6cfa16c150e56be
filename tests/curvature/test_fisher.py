"""Mask Fisher: equal to the loop over samples, to closed forms, and to the loss that removal costs."""

from functools import partial

import numpy as np
import pytest
import torch

from archtool.curvature import cache
from archtool.curvature.collect import Collection, collect, gradients_of
from archtool.curvature.losses import drawn, sample_loss
from archtool.curvature.masks import masked, ones
from archtool.curvature.moments import batch_fisher, cross_fisher, fisher, increase, stderr
from archtool.data import DataSpec, load_data
from archtool.data.batches import Batches
from archtool.errors import InputError, UsageError
from archtool.evaluate.pooling import Pooling, pool
from archtool.transforms.units import unit_axes
from tests.model.tiny import tiny
from tests.train.train_models import text_data, tiny_llama

DIGITS = {
    "family": "vit",
    "config": {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8,
        "patch_size": 4, "num_channels": 1, "architectures": ["ViTForImageClassification"], "initializer_range": 0.2,
        "id2label": {str(i): str(i) for i in range(10)},
    },
}  # fmt: skip


def digits_vit():
    from archtool.config.preset import build_model

    return build_model(DIGITS, 0)


def digits(split="train"):
    return load_data(DataSpec("sklearn:digits", task="image-classification", split=split))


def models(folder):
    return (digits_vit(), digits()), (tiny_llama(), text_data(folder))


def test_fisher_of_n_samples_equals_the_loop_over_them(tmp_path):
    for checkpoint, data in models(tmp_path):
        names = (*unit_axes(checkpoint.architecture, ["ffn", "heads", "width"]), "b0", "b1.ffn")
        model, chosen = checkpoint.module("fp64"), data.select(np.arange(12))
        whole = collect(model, chosen, names, Collection(12, "task", batch_size=5, cross=True))
        terms, loop = 0.0, {name: [] for name in names}
        for batch in Batches(chosen, 1):
            g, count = gradients_of(model, batch, names, "task", torch.Generator())
            for name in names:
                loop[name].append(g[name][0])
            terms += float(count.sum())
        for name in names:
            rows = torch.stack(loop[name])
            assert torch.allclose(fisher(whole[name]), rows.square().sum(0) / terms, rtol=1e-6, atol=1e-15), name
            assert torch.allclose(cross_fisher(whole[name]), rows.T @ rows / terms, rtol=1e-6, atol=1e-12), name
        one = collect(model, chosen, names, Collection(12, "task", batch_size=1))
        assert all(torch.allclose(batch_fisher(one[n]), fisher(one[n]), rtol=1e-9) for n in names)
        assert not torch.allclose(batch_fisher(whole[names[0]]), fisher(whole[names[0]]), rtol=1e-2)


def test_projected_gradients_estimate_the_gauss_newton_diagonal():
    """With many draws, E g^2 is the squared norm of the output's derivative."""
    checkpoint, data = digits_vit(), digits().select(np.arange(4))
    axis = "b1.ffn.hidden"
    model = checkpoint.module("fp64").requires_grad_(False)
    found = fisher(collect(model, data, [axis], Collection(4, "projected", draws=400))[axis])
    exact = 0.0
    for batch in Batches(data, 1):
        masks = ones(model, [axis], 1)

        def logits(mask, masks=masks, batch=batch):
            with masked(model, {axis: mask}):
                return model(**{k: v.double() for k, v in batch.inputs.items()})["logits"].flatten()

        exact = exact + torch.autograd.functional.jacobian(logits, masks[axis])[:, 0].square().sum(0) / 4
    assert float((found - exact).norm() / exact.norm()) < 0.15


def test_sampled_fisher_predicts_what_a_small_change_costs():
    """KL(parent || masked) is ½ F h² for a mask of 1 - h: the unit of `increase`, at h small enough to be quadratic."""
    checkpoint, data = digits_vit(), digits().select(np.arange(32))
    axis, h = "b0.ffn.hidden", 0.05
    model = checkpoint.module("fp64").requires_grad_(False)
    predicted = increase(fisher(collect(model, data, [axis], Collection(32, "sampled", draws=200))[axis])) * h**2
    (batch,) = Batches(data, 32)
    feed = {k: v.double() for k, v in batch.inputs.items()}
    log_p = torch.log_softmax(model(**feed)["logits"], -1)
    measured = []
    for unit in range(predicted.numel()):
        masks = ones(model, [axis], 32)
        with torch.no_grad(), masked(model, masks):
            masks[axis][:, unit] -= h
            log_q = torch.log_softmax(model(**feed)["logits"], -1)
            measured.append(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()))
    strong = predicted > predicted.median()
    ratio = torch.tensor(measured, dtype=torch.float64)[strong] / predicted[strong]
    assert 0.8 < float(ratio.median()) < 1.25 and float(ratio.min()) > 0.5 and float(ratio.max()) < 2.0


def test_labels_are_drawn_from_the_models_distribution():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).expand(20_000, 3)
    shares = torch.bincount(drawn(logits, torch.Generator().manual_seed(0)), minlength=3) / 20_000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.02)


def test_error_bars_shrink_with_samples():
    model, data, axis = digits_vit().module(), digits(), "b0.ffn.hidden"
    few, many = (collect(model, data, [axis], Collection(n, "task"))[axis] for n in (64, 1024))
    relative = [float((stderr(m) / fisher(m)).median()) for m in (few, many)]
    assert 0 < relative[1] < 0.6 * relative[0]


def test_statistics_are_kept_and_belong_to_weights_data_and_settings(tmp_path, monkeypatch):
    model, data, names = digits_vit().module(), digits(), ["b0.ffn.hidden"]
    first = collect(model, data, names, Collection(64), folder=tmp_path)
    monkeypatch.setattr("archtool.curvature.collect.gradients_of", lambda *a: pytest.fail("computed again"))
    again = collect(model, data, names, Collection(64), folder=tmp_path)
    assert torch.equal(fisher(first[names[0]]), fisher(again[names[0]])) and again[names[0]].cross_UU is None
    keys = {cache.key_of(model, "d", {}), cache.key_of(model, "e", {}), cache.key_of(model, "d", {"a": 1})}
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert len(keys | {cache.key_of(model, "d", {})}) == 4
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(b"damaged")
    assert cache.read(tmp_path, file.stem) is None


def test_losses_that_do_not_fit_are_refused():
    outputs = {"hidden": torch.zeros(2, 3, 4)}
    (batch,) = Batches(digits().select(np.arange(2)), 2)
    with pytest.raises(InputError, match="no task loss"):
        sample_loss("task", outputs, batch)
    with pytest.raises(UsageError, match="no curvature loss"):
        sample_loss("hessian", outputs, batch)
    bare = digits().select(np.arange(2))
    from dataclasses import replace

    with pytest.raises(InputError, match="no labels"):
        collect(digits_vit().module(), replace(bare, targets={}), ["b0.ffn.hidden"], Collection(2, "task"))


def test_embedding_losses_have_a_gradient_at_the_dense_model():
    checkpoint = tiny("bert")
    model = checkpoint.module().requires_grad_(False)
    from archtool.data.batches import Batch
    from tests.model.tiny import inputs

    embed = partial(pool, pooling=Pooling())
    batch = Batch(inputs(checkpoint, batch=6), {}, torch.arange(6))
    axes = unit_axes(checkpoint.architecture, ["ffn", "heads", "width"])
    for loss in ("projected", "contrast"):
        g, terms = gradients_of(model, batch, axes, loss, torch.Generator().manual_seed(0), embed)
        assert terms.tolist() == [1.0] * 6
        assert all(float(g[axis].abs().max()) > 1e-6 for axis in axes)
