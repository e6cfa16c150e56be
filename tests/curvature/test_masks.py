"""Masks of ones: the parent at one, the masked parent at zero, and per-sample gradients in one backward pass."""

import pytest
import torch

from archtool.builtins import OPERATORS
from archtool.curvature.masks import layer_names, masked, ones
from archtool.errors import InputError
from archtool.ir.axes import Selection, kept_indices
from archtool.ir.edit import Drop, Edit, Select
from archtool.ir.table import alike
from archtool.model.apply import apply
from archtool.model.build import build
from archtool.model.checkpoint import of_module
from archtool.model.masked import masked_parent
from archtool.operators.registry import operator_class
from archtool.transforms.units import KINDS, WIDTH, unit_axes
from tests.model.test_masked_parent import owners
from tests.model.tiny import CONFIGS, inputs, tiny


def axes_of(checkpoint):
    return unit_axes(checkpoint.architecture, [*KINDS, WIDTH])


def feed_of(checkpoint, batch=3):
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs(checkpoint, batch=batch, length=8).items()}


def probed(outputs):
    """A smooth loss per sample that all outputs enter."""
    total = 0.0
    for name in sorted(outputs):
        weights = torch.randn(outputs[name][0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        total = total + (outputs[name] * weights).flatten(1).sum(1)
    return torch.sin(total / 50)


def per_sample(checkpoint, names, batch=3):
    module, feed = checkpoint.module("fp64").requires_grad_(False), feed_of(checkpoint, batch)
    masks = ones(module, names, batch)
    with masked(module, masks):
        losses = probed(module(**feed))
    found = torch.autograd.grad(losses.sum(), list(masks.values()), allow_unused=True)
    return module, feed, dict(zip(names, found, strict=True))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_masks_of_ones_change_nothing_and_leave_nothing_behind(family):
    checkpoint = tiny(family)
    names = (*axes_of(checkpoint), *layer_names(checkpoint.architecture))
    module, feed = checkpoint.module("fp64"), feed_of(checkpoint)
    before = module(**feed)
    with masked(module, ones(module, names, 3)):
        inside = module(**feed)
    after = module(**feed)
    for name, value in before.items():
        assert torch.allclose(inside[name], value, rtol=1e-9, atol=1e-9), name
        assert torch.equal(after[name], value), name


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_mask_of_zeros_removes_what_the_edit_removes(family):
    zeros_against_the_oracle(tiny(family))


REFUSED = {"mix.attn.latent", "mix.attn.linear", "mix.fft.fno", "mix.conv.hyena"}
"""Operators that read some axis by a free tensor, or the same for all samples (an implicit filter)."""
MATCHING = {"mix.attn.merged"}
"""Operators that look at the stream itself, beside what they compute: which tokens are alike."""


@pytest.mark.parametrize("kind", sorted(OPERATORS.keys() - MATCHING))
def test_a_mask_of_zeros_on_every_operator(kind):
    refused = [zeros_against_the_oracle(perturbed(arch)) for arch in operator_class(kind).samples()]
    assert any(refused) == (kind in REFUSED)


def perturbed(arch):
    model = build(arch, seed=0, std=0.3)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    return of_module(model)


def zeros_against_the_oracle(checkpoint):
    """Half of the units of every axis, against the model without them; returns the axes that are refused."""
    refused = []
    arch = checkpoint.architecture
    leaving = {place.block.name: place.leaving for place in arch.places}
    module, feed = checkpoint.module("fp64"), feed_of(checkpoint)
    for axis in axes_of(checkpoint):
        tied = alike(arch).get(axis, (axis,))
        keep = tuple(range(0, arch.size[axis], 2))
        chosen = {a: Selection(a, keep) for a in tied}
        masks = ones(module, tied, 3)
        with torch.no_grad():
            masks[axis][:, 1::2] = 0
            try:
                with masked(module, masks):
                    found = module(**feed)
            except InputError as problem:
                assert "a free tensor" in problem.what or "without samples" in problem.what
                refused.append(axis)
                continue
            wanted = apply(checkpoint, Edit("t", tuple(map(Select, chosen.values())))).module("fp64")(**feed)
        for name, block in arch.outputs:
            left, index = found[name], kept_indices(leaving[block], arch.size, chosen)
            for channel in [i for i, n in enumerate(wanted[name].shape) if n != left.shape[i]]:
                left = left.index_select(channel, torch.tensor(index))
            assert torch.allclose(left, wanted[name], rtol=1e-8, atol=1e-8), (axis, name)
    return refused


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_layers_mask_of_zero_drops_it(family):
    checkpoint = tiny(family)
    module, feed = checkpoint.module("fp64"), feed_of(checkpoint)
    for key in layer_names(checkpoint.architecture):
        if key in owners(checkpoint.architecture):
            continue
        block, layer = key.split(".")
        with torch.no_grad():
            wanted = masked_parent(checkpoint.module("fp64"), Edit("t", (Drop(block, layer),)))(**feed)
            with masked(module, {key: torch.zeros(3, 1, dtype=torch.float64)}):
                found = module(**feed)
        for name in wanted:
            assert torch.allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9), (key, name)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_per_sample_gradients_equal_the_loop_and_finite_differences(family):
    checkpoint = tiny(family)
    names = (*axes_of(checkpoint), *layer_names(checkpoint.architecture))
    module, feed, found = per_sample(checkpoint, names)
    for i in range(3):
        alone = {k: v[i : i + 1] for k, v in feed.items()}
        masks = ones(module, names, 1)
        with masked(module, masks):
            loss = probed(module(**alone)).sum()
        wanted = dict(zip(names, torch.autograd.grad(loss, list(masks.values()), allow_unused=True), strict=True))
        for name in names:
            if wanted[name] is None:
                assert found[name] is None
                continue
            assert torch.allclose(found[name][i], wanted[name][0], rtol=1e-6, atol=1e-9), (name, i)
    step = 1e-5
    for name in names[:: max(1, len(names) // 8)]:
        if found[name] is None:
            continue
        unit = found[name].shape[1] - 1
        sides = []
        for sign in (1, -1):
            masks = ones(module, names, 3)
            with torch.no_grad():
                masks[name][:, unit] += sign * step
                with masked(module, masks):
                    sides.append(probed(module(**feed)))
        slope = (sides[0] - sides[1]) / (2 * step)
        assert torch.allclose(found[name][:, unit], slope, rtol=1e-4, atol=1e-6), name


def test_tied_axes_have_one_mask_whose_gradient_is_the_sum():
    checkpoint = tiny("t5")
    arch = checkpoint.architecture
    tied = next(iter(alike(arch).values()))
    module, feed, shared = per_sample(checkpoint, tied)
    own = {axis: torch.ones(3, arch.size[axis], dtype=torch.float64, requires_grad=True) for axis in tied}
    with masked(module, own):
        loss = probed(module(**feed)).sum()
    total = sum(torch.autograd.grad(loss, list(own.values())))
    assert len(tied) > 1 and all(torch.allclose(shared[axis], total, rtol=1e-9) for axis in tied)


def test_names_that_are_nothing_are_refused():
    module = tiny("bert").module()
    for name in ("b9.ffn.hidden", "b0.fnn", "nothing"):
        with (
            pytest.raises(InputError, match="neither an axis nor a block or layer"),
            masked(module, ones(module, [name], 2)),
        ):
            pass
