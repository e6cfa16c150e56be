"""Recurrent mixers against their definitions: scans, LSTM, linear attention, retention; padding, training, export."""

from types import SimpleNamespace

import numpy
import pytest
import torch

from archtool.export.onnx import default_dynamic, export_onnx
from archtool.ir.architecture import NormSpec
from archtool.measure.inputs import example_inputs
from archtool.operators import scan
from archtool.operators.chunked import CHUNK, chunked
from archtool.operators.linear_attention import LinearAttention
from archtool.operators.retention import Retention
from archtool.operators.rnn import Lstm
from archtool.operators.samples import branch, in_text
from archtool.operators.ssm import Ssm
from tests.operators.checks import made

torch.set_num_threads(1)


def _random(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def _scan_inputs(tokens=70, strong=1.0, dtype=torch.float64):
    x, step, decay, b, c, h = _random((2, tokens, 5), (2, tokens, 5), (5, 3), (2, tokens, 3), (2, tokens, 3), (2, 5, 3))
    step, decay = torch.nn.functional.softplus(step) * strong, -decay.exp() * strong
    return [t.to(dtype).requires_grad_() for t in (x, step, decay, b, c, h)]


def _by_definition(x, step, decay, b, c, h):
    outs = []
    for t in range(x.shape[1]):
        h = torch.exp(step[:, t, :, None] * decay) * h + (step * x)[:, t, :, None] * b[:, t, None]
        outs.append((h * c[:, t, None]).sum(-1))
    return torch.stack(outs, 1), h


def _gradients(outs, inputs):
    torch.manual_seed(0)
    return torch.autograd.grad(sum((o * torch.randn(o.shape, dtype=o.dtype)).sum() for o in outs), inputs)


def _in_lanes(x, step, decay, b, c, h):
    return scan._chunk((x, step, b, c), decay, h, False)


@pytest.mark.parametrize("entries", [2**19, 30 * 17, 30, 0])
def test_the_scan_and_its_gradients_equal_the_definition(entries, monkeypatch):
    """In one chunk, in chunks that do not divide the length, token by token, and (0) in lanes with a rest."""
    monkeypatch.setattr(scan, "CACHED", entries)
    inputs = _scan_inputs()
    got = scan.selective_scan(*inputs) if entries else _in_lanes(*inputs)
    expected = _by_definition(*inputs)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(got, expected, strict=True))
    pairs = zip(_gradients(got, inputs), _gradients(expected, inputs), strict=True)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in pairs)


def test_strong_and_weak_decays_stay_finite_in_float32():
    for strong in (1e-4, 30.0, 1e4):
        inputs = _scan_inputs(strong=strong, dtype=torch.float32)
        for lanes in (1, 16):
            forget = (inputs[1][..., None] * inputs[2]).exp()
            added = (inputs[1] * inputs[0])[..., None] * inputs[3][:, :, None]
            found = scan.states(forget, added, inputs[5], lanes)
            expected, _ = _by_definition(*(t.double() for t in inputs))
            out = (found.double() * inputs[4].double()[:, :, None]).sum(-1)
            assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
            assert all(torch.isfinite(g).all() for g in _gradients([found], inputs[:3]))


def _alone(op, **sizes):
    """The parts of an operator on a stream of 16, and a pass over one sequence."""
    return made(in_text([branch(op, **sizes)])).module().get_submodule("b0.op")


class _Pass(SimpleNamespace):
    """What a layer sees of a pass: padding, tokens before, and a state."""

    root, past, held = "input_ids", 0, None

    def padding(self, root):
        return getattr(self, "mask", None)

    def swap(self, first):
        return self.held or first()

    def store(self, value):
        self.held = value


def test_lstm_equals_torch():
    m = _alone(Lstm(), hidden=10)
    (x,) = _random((3, 7, 16), dtype=torch.float32)
    reference = torch.nn.LSTM(16, 10, batch_first=True)
    named = {"weight_ih_l0": m.input.weight, "bias_ih_l0": m.input.bias, "weight_hh_l0": m.recur.weight,
             "bias_hh_l0": m.recur.bias}  # fmt: skip
    reference.load_state_dict(named)
    ctx = _Pass()
    with torch.no_grad():
        hidden, (h, c) = reference(x)
        assert (Lstm().forward(m, x, ctx) - m.leave(hidden)).abs().max() <= 1e-6
        assert all((a - b[0]).abs().max() <= 1e-6 for a, b in zip(ctx.held, (h, c), strict=True))
        backward = m.leave(reference(x.flip(1))[0].flip(1))
        assert (Lstm(reverse=True).forward(m, x, _Pass()) - backward).abs().max() <= 1e-6


def _heads(m, x, *names):
    return [getattr(m, name)(x).unflatten(-1, (2, -1)).transpose(1, 2).double() for name in names]


def _weighted(weights, v, m):
    return m.o((weights / weights.sum(-1, keepdim=True).clamp_min(1e-20) @ v).transpose(1, 2).flatten(2).float())


def _weights(op, q, k):
    if op.feature == "elu":
        return (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).transpose(2, 3)
    at = torch.arange(q.shape[2])
    falling = torch.cos(torch.pi / 2 * (at[:, None] - at) / (op.horizon or q.shape[2]))
    return q.relu() @ k.relu().transpose(2, 3) * falling


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("feature", ["elu", "cosformer"])
def test_linear_attention_equals_its_weights(feature, causal):
    op = LinearAttention(feature=feature, causal=causal, horizon=300 if causal else 0)
    m = _alone(op, kv=2, qk=6, v=4)
    (x,) = _random((2, CHUNK + 13, 16), dtype=torch.float32)
    with torch.no_grad():
        q, k, v = _heads(m, x, "q", "k", "v")
        weights = _weights(op, q, k)
        expected = _weighted(weights.tril() if causal else weights, v, m)
        assert (op.forward(m, x, _Pass()) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("causal", [False, True])
def test_performer_comes_close_to_softmax_with_many_features(causal):
    """The error falls as one over the root of the number of features; keys of great length do not overflow."""
    (x,) = _random((2, 70, 16), dtype=torch.float32)
    errors = []
    for features in (32, 8192):
        op = LinearAttention(feature="performer", features=features, scale=0.05, causal=causal)
        m = _alone(op, kv=2, qk=6, v=4)
        with torch.no_grad():
            q, k, v = _heads(m, x, "q", "k", "v")
            weights = torch.exp(0.05 * q @ k.transpose(2, 3))
            expected = _weighted(weights.tril() if causal else weights, v, m)
            errors.append(float((op.forward(m, x, _Pass()) - expected).norm() / expected.norm()))
            assert op.forward(m, 100 * x, _Pass()).isfinite().all()
    assert errors[1] <= 0.06 and errors[1] < errors[0] / 4


def test_performer_directions_are_orthogonal_and_stored():
    model = made(in_text([branch(LinearAttention(feature="performer", features=9), kv=2, qk=4, v=4)])).module()
    omega = model.get_submodule("b0.op").omega
    gram = omega[:4] @ omega[:4].T
    assert "b0.op.omega" in model.state_dict() and not omega.requires_grad
    assert (gram - gram.diag().diag()).abs().max() <= 1e-5 and gram.diag().std() > 0.1


def test_retention_equals_its_definition():
    op = Retention(scale=0.4, gate=True, norm=NormSpec("rms", 1e-6, gain=False))
    m = _alone(op, kv=2, qk=6, v=4)
    (x,) = _random((2, 2 * CHUNK + 9, 16), dtype=torch.float32)
    at = torch.arange(x.shape[1])
    with torch.no_grad():
        assert torch.allclose(m.decay, torch.tensor([1 - 2**-5, 1 - 2**-6]))
        q, k, v = _heads(m, x, "q", "k", "v")
        falling = (m.decay.double()[:, None, None] ** (at[:, None] - at).clamp_min(0)).tril()
        mixed = (0.4 * q @ k.transpose(2, 3) * falling) @ v
        normed = mixed * torch.rsqrt(mixed.square().mean(-1, keepdim=True) + 1e-6)
        expected = m.o(normed.transpose(1, 2).flatten(2).float() * torch.nn.functional.silu(m.gate(x)))
        assert (op.forward(m, x, _Pass()) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_chunks_go_on_from_a_state_with_fast_decays():
    q, k, v = _random((2, 3, 150, 5), (2, 3, 150, 5), (2, 3, 150, 4))
    decay, start = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), torch.zeros(2, 3, 5, 4, dtype=torch.float64)
    whole, last = chunked(q, k, v, decay, start)
    outs, state = [], start
    for size in (1, 70, 64, 15):
        at = sum(o.shape[2] for o in outs)
        out, state = chunked(*(t[:, :, at : at + size] for t in (q, k, v)), decay, state)
        outs.append(out)
    assert torch.allclose(torch.cat(outs, 2), whole, atol=1e-12) and torch.allclose(state, last, atol=1e-12)


CAUSAL = {
    "ssm": (Ssm(), {"inner": 10, "state": 4, "rank": 3}),
    "rnn": (Lstm(), {"hidden": 10}),
    "elu": (LinearAttention(causal=True), {"kv": 2, "qk": 6, "v": 4}),
    "performer": (LinearAttention(feature="performer", features=8, causal=True), {"kv": 2, "qk": 6, "v": 4}),
    "retention": (Retention(scale=0.4), {"kv": 2, "qk": 6, "v": 4}),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_padding_changes_nothing_at_real_tokens(name):
    """Three tokens of padding on the left, or two on the right, in one of two rows."""
    op, sizes = CAUSAL[name]
    m = _alone(op, **sizes)
    (x,) = _random((2, 9, 16), dtype=torch.float32)
    mask = torch.ones(2, 9, dtype=torch.int64)
    for there in (slice(3, None), slice(0, 7)):
        mask[0] = 0
        mask[0, there] = 1
        with torch.no_grad():
            both, alone = op.forward(m, x, _Pass(mask=mask)), op.forward(m, x[:1, there], _Pass())
            other = op.forward(m, x, _Pass())
        assert (both[:1, there] - alone).abs().max() <= 1e-5
        assert torch.allclose(both[1], other[1], atol=1e-6)


def test_an_exported_graph_takes_any_length(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    blocks = ([branch(CAUSAL[name][0], **CAUSAL[name][1])] for name in ("ssm", "rnn", "elu"))
    module = made(in_text(*blocks)).module()
    feed = example_inputs(module.architecture, 2, 12)
    path = export_onnx(module, feed, tmp_path / "model.onnx", dynamic=default_dynamic(feed))
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for length in (1, 5, CHUNK + 6):
        feed = example_inputs(module.architecture, 3, length)
        got = session.run(None, {key: value.numpy() for key, value in feed.items()})
        with torch.no_grad():
            expected = module(**feed)
        for value, other in zip(expected.values(), got, strict=True):
            assert numpy.abs(value.numpy() - other).max() <= 1e-4 * float(value.abs().max())


@pytest.mark.parametrize(
    "wrong", [{"feature": "relu"}, {"feature": "performer"}, {"features": 8}, {"feature": "cosformer", "causal": True}]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=r"feature|horizon"):
        LinearAttention(**wrong)
