"""Blocks that run again in the backward pass: the same numbers, less kept."""

import pytest
import torch
from train_models import same_bits, settings, text_data, tiny_llama

from archtool.config.preset import build_model
from archtool.data.batches import Batches
from archtool.errors import InputError
from archtool.ir.axes import Selection
from archtool.model import views
from archtool.model.build import build
from archtool.train.loop import fit
from archtool.train.objectives.base import Term, WeightedSum, task_loss
from archtool.train.run import train


class Kept:
    """Counts the elements that a forward pass keeps for its backward pass."""

    def __enter__(self):
        self.elements, self.seen = 0, set()
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def pack(self, tensor):
        if not isinstance(tensor, torch.nn.Parameter) and tensor.data_ptr() not in self.seen:
            self.seen.add(tensor.data_ptr())
            self.elements += tensor.numel()
        return tensor

    def __exit__(self, *problem):
        self.hooks.__exit__(*problem)


def gradients(module, inputs, run=None):
    module.zero_grad()
    with Kept() as kept:
        outputs = (run or (lambda: module(**inputs)))()
        loss = sum(value.float().square().mean() for value in outputs.values())
    loss.backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return loss.detach(), found, kept.elements


def compared(module, inputs, run=None):
    module.train()
    plain = gradients(module, inputs, run)
    module.recompute = True
    again = gradients(module, inputs, run)
    module.recompute = False
    assert torch.equal(plain[0], again[0]) and plain[1].keys() == again[1].keys()
    for name, gradient in plain[1].items():
        assert torch.allclose(gradient, again[1][name], rtol=1e-6, atol=1e-9), name
    return plain[2], again[2]


def test_a_language_model_keeps_less_and_computes_the_same():
    config = {
        "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64,
    }  # fmt: skip
    module = build_model({"family": "llama", "config": config}, 0).module()
    ids = torch.randint(0, 32, (2, 24), generator=torch.Generator().manual_seed(0))
    plain, again = compared(module, {"input_ids": ids})
    assert again < 0.35 * plain


@pytest.mark.parametrize("kind", ["mix.attn.relbias", "mix.attn.residual", "norm.revin", "topo.unfold", "mix.mbconv"])
def test_operators_that_share_things_within_a_pass(kind):
    """Biases computed once, scores of the layer before, statistics that come back, and running averages."""
    from archtool import registry
    from archtool.export.reference import reference_inputs

    for arch in registry.load("operators", kind).samples():
        module, other, inputs = build(arch, 0, 0.3), build(arch, 0, 0.3), reference_inputs(arch)
        compared(module, inputs)
        other.train()
        for _ in range(2):  # forward passes, as `compared` has run
            other(**inputs)
        for name, buffer in module.named_buffers():
            assert torch.equal(buffer, other.get_buffer(name)), name


def test_sub_networks_on_views_run_again_on_their_views():
    module = build_model("vit-digits", 0).module()
    axis = next(name for name in module.architecture.size if name.endswith("ffn.hidden"))
    small = {axis: Selection(axis, tuple(range(5)))}
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = {"pixel_values": x}
    compared(module, inputs, lambda: views.run(module, views.views(module, small), **inputs))


def test_training_gives_the_same_bits(tmp_path):
    data = text_data(tmp_path)
    plain, again = (train(tiny_llama(), data, settings(checkpointing=on))[0] for on in (False, True))
    assert same_bits(plain, again)


def test_a_loss_may_look_inside_blocks_that_run_again(tmp_path):
    from archtool.train.losses import Lesson, LossSettings, terms_of
    from archtool.train.objectives.teacher import live

    data, parent = text_data(tmp_path), tiny_llama(seed=1)

    def learned(on):
        lesson = Lesson(live(parent), parent.architecture)
        weights = {"hidden": 1.0, "attention": 1.0}
        terms = terms_of(weights, "lm", parent.architecture, lesson, LossSettings(layers="even"))
        return train(tiny_llama(), data, settings(checkpointing=on, steps=4), terms=terms)[1].curve

    assert [loss for _, loss in learned(True)] == pytest.approx([loss for _, loss in learned(False)], rel=1e-6)


def test_modules_without_blocks_are_refused(tmp_path):
    data = text_data(tmp_path)
    objective = WeightedSum([Term("task", 1.0, task_loss("lm"))])
    with pytest.raises(InputError, match="no blocks to run again"):
        fit(torch.nn.Linear(2, 2), objective, data, settings(checkpointing=True))
    assert len(next(iter(Batches(data, 2))).positions) == 2
