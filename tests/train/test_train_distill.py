import pytest
import torch
from train_models import settings, tensors, text_data, tiny_llama

from archtool.data.batches import Batch, Batches
from archtool.errors import InputError, UsageError
from archtool.evaluate import evaluate
from archtool.train.objectives.base import task_loss
from archtool.train.objectives.distill import Distillation, embedding_distance
from archtool.train.objectives.forecast import forecast_loss
from archtool.train.objectives.logits import softened_kl
from archtool.train.run import distillation, train


def test_the_gradient_is_zero_at_equality(tmp_path):
    checkpoint, data = tiny_llama(), text_data(tmp_path)
    module, batch = checkpoint.module().train(), next(iter(Batches(data, 4)))
    loss = Distillation(checkpoint.module(), 2.0)(module(**batch.inputs), batch)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-6 and max(float(p.grad.abs().max()) for p in module.parameters()) < 1e-6


def test_the_divergence_is_that_of_torch():
    a, b = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    counts = torch.tensor([True, True, False, True])
    log_q, p = torch.log_softmax(a[counts] / 3, -1), torch.softmax(b[counts] / 3, -1)
    expected = 9 * torch.nn.functional.kl_div(log_q, p, reduction="batchmean")
    assert float(softened_kl(a, b, counts, 3.0)) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(InputError, match="differ in shape"):
        softened_kl(a, b[:, :5], counts, 3.0)


def test_maps_are_distilled_cell_by_cell():
    ours, theirs = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    batch = Batch({"pixel_values": torch.zeros(2, 1)}, {}, torch.arange(2))

    class Parent(torch.nn.Module):
        def forward(self, pixel_values):
            return {"logits": theirs}

    expected = softened_kl(ours.movedim(1, -1), theirs.movedim(1, -1), torch.ones(2, 4, 5, dtype=torch.bool), 2.0)
    assert float(Distillation(Parent(), 2.0)({"logits": ours}, batch)) == pytest.approx(float(expected), rel=1e-6)


def test_a_student_comes_near_its_parent_without_labels(tmp_path):
    data = text_data(tmp_path)
    parent, _ = train(tiny_llama(), data, settings(steps=40, batch_size=16))
    student = tiny_llama(seed=1)
    before = {name: tensor.clone() for name, tensor in tensors(parent).items()}
    kl = evaluate(student.module(), "agreement", data, parent=parent.module()).values["kl"]
    recovered, record = train(student, data, settings(steps=40, batch_size=16), terms=[distillation(parent)])
    after = evaluate(recovered.module(), "agreement", data, parent=parent.module()).values["kl"]
    assert after < 0.2 * kl and record.loss < record.curve[0][1]
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors(parent).items())


def test_embeddings_are_matched_where_there_are_no_logits():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    batch = Batch({"attention_mask": mask}, {}, torch.arange(2))
    generator = torch.Generator().manual_seed(0)
    hidden, other, wide = (torch.randn(2, 3, d, generator=generator) for d in (4, 4, 5))
    ours = hidden.clone().requires_grad_()
    loss = embedding_distance({"hidden": ours}, {"hidden": hidden}, batch)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6) and float(ours.grad.abs().max()) < 1e-6
    assert float(embedding_distance({"hidden": other}, {"hidden": hidden}, batch)) > 0.01
    assert float(embedding_distance({"hidden": wide}, {"hidden": hidden}, batch)) > 0
    with pytest.raises(InputError, match="the model gives x, the parent hidden"):
        embedding_distance({"x": hidden}, {"hidden": hidden}, batch)


def test_losses_of_tasks():
    future = torch.zeros(2, 3, 1)
    batch = Batch({}, {"future": future}, torch.arange(2))
    assert float(forecast_loss({"forecast": future + 2}, batch)) == 4.0
    with pytest.raises(InputError, match="forecasts"):
        forecast_loss({"forecast": future[:, :2]}, batch)
    labels = Batch({}, {"labels": torch.tensor([1, 0])}, torch.arange(2))
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    expected = float(torch.log(torch.tensor(1 + torch.e)) - 0.5)
    assert float(task_loss("text-classification")({"logits": logits}, labels)) == pytest.approx(expected)
    ids = Batch({}, {"next_ids": torch.tensor([[1, -100], [0, -100]])}, torch.arange(2))
    tokens = logits[:, None].expand(2, 2, 2)
    assert float(task_loss("lm")({"logits": tokens}, ids)) == pytest.approx(expected)
    with pytest.raises(UsageError, match="no training loss"):
        task_loss("similarity")
    with pytest.raises(InputError, match="label 2"):
        task_loss("image-classification")(
            {"logits": logits}, Batch({}, {"labels": torch.tensor([2, 0])}, ids.positions)
        )
    with pytest.raises(UsageError, match="temperature"):
        Distillation(torch.nn.Identity(), 0.0)
