"""The simple transforms: magnitude widths, depth, prefix extraction, round-to-nearest."""

from dataclasses import replace

import pytest
import torch

from archtool.budget.language import parse_budget
from archtool.errors import BudgetError, UsageError
from archtool.ir.encodings import Affine
from archtool.model.apply import apply
from archtool.model.costs import costs
from archtool.transforms.extract.prefix import prefix_order
from archtool.transforms.prune.criteria.magnitude import scores
from archtool.transforms.prune.depth import block_scores, drop_weakest
from archtool.transforms.quantize.rtn import rtn_edit
from archtool.transforms.quantize.scheme import parse_scheme
from archtool.transforms.units import kinds_for, unit_axes
from archtool.transforms.widths import largest_fraction, ranked
from tests.model.tiny import CONFIGS, inputs, tiny


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_magnitude_equals_a_naive_loop(family):
    checkpoint = tiny(family)
    arch = checkpoint.architecture
    axis = next(a for a in arch.size if a.endswith((".ffn.hidden", ".ssm.inner")))
    ((_, values),) = scores(checkpoint, [axis]).items()
    module = checkpoint.module().requires_grad_(False).get_submodule(axis.rsplit(".", 1)[0])
    for i in range(arch.size[axis]):
        energy = 0.0
        for name, p in module.named_parameters():
            if name.split(".")[0] in ("fc1", "gate", "up", "conv", "step", "step_bias", "decay", "skip"):
                energy += float((p[i] ** 2).sum())
            elif name in ("fc2.weight", "down.weight", "select.weight", "leave.weight"):
                energy += float((p[:, i] ** 2).sum())
            elif name == "enter.weight":
                energy += float((p[i] ** 2).sum() + (p[i + arch.size[axis]] ** 2).sum())
        assert values[i] == pytest.approx(energy, rel=1e-5)


def uniform(checkpoint, budget):
    axes = unit_axes(checkpoint.architecture, kinds_for(checkpoint.architecture, (), ("ffn", "heads")))
    order = prefix_order(checkpoint.architecture, axes)
    resolved = parse_budget(budget).resolve(costs(checkpoint))
    return largest_fraction(
        checkpoint.architecture, order, resolved, lambda e: costs(apply(checkpoint, e)), "prefix"
    ), resolved


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("budget", ["params=0.8x", "size=0.8x", "macs=0.8x"])
def test_budgets_are_met_and_nearly_used(family, budget):
    checkpoint = tiny(family)
    edit, resolved = uniform(checkpoint, budget)
    small = apply(checkpoint, edit)
    assert not resolved.check(costs(small))
    assert costs(small)["parameters"] < costs(checkpoint)["parameters"]


def test_kinds_without_any_are_the_usual_ones_or_inner_widths():
    llama, mamba = tiny("llama").architecture, tiny("mamba").architecture
    assert kinds_for(llama, (), ("ffn", "heads")) == ("ffn", "heads") and kinds_for(llama, ["v"], ("ffn",)) == ["v"]
    assert unit_axes(mamba, kinds_for(mamba, (), ("ffn", "heads"))) == tuple(f"b{i}.ssm.inner" for i in range(3))
    assert unit_axes(mamba, ["state", "rank"])[:2] == ("b0.ssm.state", "b0.ssm.rank")


def test_an_impossible_budget_names_the_nearest_feasible():
    with pytest.raises(BudgetError) as caught:
        uniform(tiny("llama"), "params=0.001x")
    assert "params=" in caught.value.hint and caught.value.exit_code == 6


def test_magnitude_beats_random_and_reverse_on_output_error():
    checkpoint = tiny("llama")
    with torch.no_grad():
        module = checkpoint.module()
    axes = unit_axes(checkpoint.architecture, ["ffn"])
    got = scores(checkpoint, axes)
    kept = {a: checkpoint.architecture.size[a] // 2 for a in axes}
    from archtool.transforms.widths import selection_edit

    feed = inputs(checkpoint)
    dense = module(**feed)["logits"]

    def error(order):
        return float((apply(checkpoint, selection_edit("t", order, kept)).module()(**feed)["logits"] - dense).norm())

    best = error(ranked(got))
    worst = error(ranked({a: [-v for v in s] for a, s in got.items()}))
    generator = torch.Generator().manual_seed(0)
    random = [
        error({a: torch.randperm(len(s), generator=generator).tolist() for a, s in got.items()}) for _ in range(5)
    ]
    assert best < sum(random) / len(random) < worst


def test_depth_drops_the_block_that_writes_least():
    checkpoint = tiny("llama")
    with torch.no_grad():
        for name in ("b1.attn.o.weight", "b1.ffn.down.weight"):
            checkpoint.weights[name].tensor.mul_(0.01)
    edit = drop_weakest(checkpoint.architecture, block_scores(checkpoint), 1)
    assert [d.block for d in edit.decisions] == ["b1"]
    assert [b.name for b in apply(checkpoint, edit).architecture.stage("s0")] == ["b0", "b2"]


def test_depth_takes_blocks_of_any_stage_and_leaves_one_in_each():
    arch, scores = tiny("swin").architecture, {"b0": 1.0, "b1": 0.0, "b2": 3.0, "b3": 2.0, "b4": 5.0}
    edit = drop_weakest(arch, scores, 3)
    assert [d.block for d in edit.decisions] == ["b1", "b3", "b2"]
    with pytest.raises(UsageError, match="cannot drop 4 of 5 blocks: 3 can go"):
        drop_weakest(arch, scores, 4)
    assert list(block_scores(tiny("swin"), protect=["b1", "b2.attn"])) == ["b0", "b3", "b4"]


def test_depth_passes_over_a_block_whose_tensors_others_use():
    arch = tiny("llama").architecture
    blocks = tuple(replace(b, share="b0") if b.name == "b1" else b for b in arch.blocks)
    edit = drop_weakest(replace(arch, blocks=blocks), {"b0": 0.0, "b1": 1.0, "b2": 2.0}, 2)
    assert [d.block for d in edit.decisions] == ["b1", "b0"]


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("scheme", ["w8", "w4g16", "w4g8-asym"])
def test_rtn_error_is_at_most_half_a_step(family, scheme):
    checkpoint = tiny(family)
    edit = rtn_edit(checkpoint.architecture, parse_scheme(scheme).encoding)
    small = apply(checkpoint, edit)
    assert edit.decisions
    for decision in edit.decisions:
        dense = checkpoint.tensor(decision.tensor).rows(0, 10**9).flatten(1)
        coded = small.tensor(decision.tensor).rows(0, dense.shape[0]).flatten(1)
        encoding: Affine = decision.encoding
        grouped = dense.unflatten(1, (encoding.groups(dense.shape[1]), -1))
        top = 2 ** (encoding.bits - 1) - 1
        if encoding.symmetric:
            step = grouped.abs().amax(-1, keepdim=True) / top
        else:
            span = grouped.amax(-1, keepdim=True).clamp_min(0) - grouped.amin(-1, keepdim=True).clamp_max(0)
            step = 2 * span / (2**encoding.bits - 1)
        assert ((coded - dense).unflatten(1, (step.shape[1], -1)).abs() <= step * 0.5001 + 1e-7).all()
    assert costs(small)["bits"] < costs(checkpoint)["bits"] / 2


def test_groups_that_do_not_fit_fall_back_and_are_noted():
    checkpoint = tiny("llama")
    edit = rtn_edit(checkpoint.architecture, Affine(4, 64))
    assert edit.notes and all("do not fill" in text for _, text in edit.notes)


def test_unknown_schemes_are_refused():
    for text in ("w5", "w4a4", "int8", "w"):
        with pytest.raises(UsageError):
            parse_scheme(text)


def test_relative_error_equals_the_norms_of_whole_tensors():
    from archtool.transforms.quantize.error import relative_errors

    checkpoint = tiny("bert")
    small = apply(checkpoint, rtn_edit(checkpoint.architecture, Affine(8)))
    found = relative_errors(checkpoint, small)
    assert set(found) == {name for name, _ in small.plan.entries}
    for name, error in found.items():
        exact, coded = (c.tensor(name).rows(0, c.tensor(name).shape[0]).double() for c in (checkpoint, small))
        assert error == pytest.approx(float((coded - exact).norm() / exact.norm()), rel=1e-9) and 0 < error < 0.02
