"""Every registered operator and construct, on its own samples."""

import pytest

from archtool.builtins import CONSTRUCTS, OPERATORS
from archtool.ir.architecture import place_flows
from archtool.ir.feeds import entering
from archtool.operators.registry import operator_class
from archtool.operators.samples import branch, in_text
from archtool.registry import load
from tests.operators import checks

BRINGERS = {kind: operator_class(kind) for kind in OPERATORS} | {kind: load("constructs", kind) for kind in CONSTRUCTS}
SAMPLES = [(kind, i, arch) for kind, bringer in BRINGERS.items() for i, arch in enumerate(bringer.samples())]
EACH = pytest.mark.parametrize("arch", [a for _, _, a in SAMPLES], ids=[f"{kind}-{i}" for kind, i, _ in SAMPLES])


def test_every_operator_has_samples_that_contain_it():
    for kind in OPERATORS:
        samples = operator_class(kind).samples()
        assert samples, kind
        assert all(any(p.layer.op and p.layer.op.kind == kind for p in arch.places) for arch in samples), kind


def test_every_construct_is_seen_where_it_is_and_only_there():
    plain = in_text([branch(operator_class("ffn.mlp")(act="relu"), hidden=8)])
    for kind in CONSTRUCTS:
        construct = load("constructs", kind)
        assert all(construct.found(arch) for arch in construct.samples()), kind
        assert construct.kind == kind and construct.said
        assert construct.found(plain) == (kind in ("norm.ln", "pos.none", "mix.identity")), kind


def test_every_operator_states_its_cost():
    assert [kind for kind in OPERATORS if not operator_class(kind).cost_form] == []


@EACH
def test_data(arch):
    checks.check_data(arch)


@EACH
def test_cost_is_what_is_counted(arch):
    checks.check_cost(arch)


@EACH
def test_every_parameter_learns(arch):
    checks.check_gradient(arch)


@EACH
def test_every_axis_equals_its_masked_parent(arch):
    checks.check_masked(arch)


def _chosen(condition):
    found = [(f"{kind}-{i}", arch) for kind, i, arch in SAMPLES if condition(kind, arch)]
    return pytest.mark.parametrize("arch", [a for _, a in found], ids=[name for name, _ in found])


def _recurs(kind, arch):
    flows = place_flows(arch, entering(arch, 8))
    kept = (p.layer.op.state_elements(p.site, flow) for p, flow in zip(arch.places, flows, strict=True) if p.layer.op)
    return checks.causal(arch) and any(kept)


@_chosen(lambda kind, arch: checks.causal(arch))
def test_causality(arch):
    checks.check_causal(arch)


@_chosen(_recurs)
def test_recurrent_form_equals_parallel_form(arch):
    checks.check_recurrent(arch)


@_chosen(lambda kind, arch: getattr(BRINGERS[kind], "linear_in_length", False))
def test_cost_is_linear_in_length(arch):
    checks.check_linear(arch)
