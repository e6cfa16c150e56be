"""What every operator passes on its samples; each check takes an architecture."""

import dataclasses

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from archtool.export.reference import reference_inputs
from archtool.ir.architecture import place_flows
from archtool.ir.axes import Selection, kept_indices
from archtool.ir.codec import from_json, to_json
from archtool.ir.cost import cost
from archtool.ir.edit import Edit, Select
from archtool.ir.feeds import entering, feeds
from archtool.ir.parts import Role
from archtool.ir.table import alike, axes, claims
from archtool.ir.validate import validate
from archtool.measure.inputs import example_inputs
from archtool.model.apply import apply
from archtool.model.build import build
from archtool.model.checkpoint import of_module
from archtool.model.masked import masked_parent
from archtool.operators.registry import operator_class

torch.set_num_threads(1)
LENGTH = 12


def made(arch, seed=0):
    """A checkpoint whose every tensor is moved off its initial value."""
    model = build(arch, seed, std=0.3)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
        for name, b in model.named_buffers():
            if "running" in name:
                b.add_(torch.rand(b.shape, generator=generator))
    return of_module(model.eval())


def check_data(arch):
    """A valid graph that survives JSON."""
    validate(arch)
    assert from_json(type(arch), to_json(arch), operator_class) == arch


def check_cost(arch):
    """Parameters and bytes are those of the module; MACs are those that torch counts."""
    checkpoint = made(arch)
    module, found = checkpoint.module(), cost(arch, length=LENGTH)
    assert found.parameters == sum(p.numel() for p in set(module.parameters()))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(**example_inputs(arch, 1, LENGTH))
    places = zip(arch.places, place_flows(arch, entering(arch, LENGTH)), strict=True)
    uncounted = sum(p.layer.op.uncounted_macs(p.site, flow) for p, flow in places if p.layer.op)
    assert 2 * (found.macs - uncounted) == counter.get_total_flops()


def check_gradient(arch):
    """Every parameter has a finite gradient that is not zero everywhere."""
    torch.manual_seed(0)
    module = made(arch).module().train()
    out = module(**reference_inputs(arch))
    sum((value.float() * torch.randn(value.shape)).sum() for value in out.values()).backward()
    for name, p in module.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


def selectable(arch):
    """Axes that some tensor produces and that nothing looks up or states as fixed."""
    fixed = {
        p.site.axis(local) for p in arch.places if p.layer.op
        for local, edits in p.layer.op.local_axes.items() if "select" not in edits
    }  # fmt: skip
    roles = {}
    for claim in claims(arch):
        for d, role in zip(claim.spec.dims, claim.spec.roles, strict=True):
            for axis in d.axes():
                roles.setdefault(axis, set()).add(role)
    free = (a for a in axes(arch) if Role.INDEX not in roles[a] and roles[a] != {Role.CONSUMES})
    return [a for a in free if arch.size[a] > 1 and a not in fixed]


def check_masked(arch):
    """The sliced model equals the masked parent, for every axis alone and for all together."""
    checkpoint = made(arch)
    free = selectable(arch)
    together = alike(arch)
    for group in dict.fromkeys(together.get(a, (a,)) for a in free):
        _equal(checkpoint, group)
    _equal(checkpoint, free)


def _equal(checkpoint, chosen):
    arch = checkpoint.architecture
    keep = {a: tuple(range(1, arch.size[a], 2)) for a in chosen}
    edit = Edit("check", tuple(Select(Selection(a, k)) for a, k in keep.items()))
    feed = reference_inputs(arch)
    with torch.no_grad():
        small = apply(checkpoint, edit).module()(**feed)
        expected = masked_parent(checkpoint.module(), edit)(**feed)
    leaving = {place.block.name: place.leaving for place in arch.places}
    selections = {d.selection.axis: d.selection for d in edit.decisions}
    for name, block in arch.outputs:
        value, reference = small[name], expected[name]
        if reference.shape != value.shape:
            channels = next(i for i, n in enumerate(value.shape) if reference.shape[i] != n)
            indices = torch.tensor(kept_indices(leaving[block], arch.size, selections))
            reference = reference.index_select(channels, indices)
        scale = reference.abs().max().clamp_min(1.0)
        assert (value - reference).abs().max() <= 1e-5 * scale, (chosen, name)


def causal(arch):
    """Whether every mixer says that it sees earlier tokens only."""
    flags = [getattr(p.layer.op, "causal", None) for p in arch.places]
    return any(f is True for f in flags) and False not in flags


def check_causal(arch):
    """Another last token changes nothing before it."""
    module, feed = made(arch).module(), example_inputs(arch, 2, LENGTH)
    name = arch.inputs[-1]
    other = {**feed, name: feed[name].clone()}
    other[name][:, -1] = (other[name][:, -1] + 1) % feeds(arch)[name].below
    with torch.no_grad():
        one, two = module(**feed)["hidden"], module(**other)["hidden"]
    assert torch.allclose(one[:, :-1], two[:, :-1], atol=1e-6)
    assert (one[:, -1] - two[:, -1]).abs().max() > 1e-4


def check_recurrent(arch):
    """Token by token with a state gives what the whole sequence gives."""
    module, feed = made(arch).module(), example_inputs(arch, 2, LENGTH)
    name, state, steps = arch.inputs[-1], {}, []
    with torch.no_grad():
        whole = module(**feed)["hidden"]
        for t in range(LENGTH):
            steps.append(module(**{**feed, name: feed[name][:, t : t + 1]}, state=state)["hidden"])
    assert (torch.cat(steps, dim=1) - whole).abs().max() <= 1e-4 * whole.abs().max().clamp_min(1.0)


def check_linear(arch):
    """Counted FLOPs and stated MACs grow at most in proportion to the tokens."""
    counted, stated = [], []
    for n in (64, 128, 256):
        larger = dataclasses.replace(arch, facts=tuple((k, _grown(k, v, n)) for k, v in arch.facts))
        module = build(larger).eval()
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(**example_inputs(larger, 1, n))
        counted.append(counter.get_total_flops())
        stated.append(cost(larger, length=n).macs)
    for found in (counted, stated):
        assert found[2] - found[1] <= 2.05 * (found[1] - found[0]) and found[1] > found[0]


def _grown(fact, value, n):
    return value * n // 64 if fact in ("image_height", "series_length") else value
