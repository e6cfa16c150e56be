"""Pooling, grouped and biased attention, sequence pooling and coefficients against their formulas."""

import torch

from archtool.ir.architecture import NormSpec
from archtool.operators.grid_pool import GridPool
from archtool.operators.group_attention import GroupAttention
from archtool.operators.mlp import Mlp
from archtool.operators.offset_attention import OffsetAttention
from archtool.operators.samples import branch, on_image, pooled_by, weighed
from archtool.operators.seq_pool import SeqPool
from tests.operators.checks import made

HEADS = {"kv": 2, "group": 1, "qk": 4, "v": 4}
IMAGE = {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


def around(arch, layer="b0.op"):
    """What enters and leaves a layer's operator when the model runs on `IMAGE`; the layer's parts."""
    model = made(arch).module()
    block, name = layer.split(".")
    op = next(item for item in arch.block(block).layers if item.name == name).op
    seen = {}

    def forward(self, m, x, ctx):
        seen.update(x=x, y=type(self).forward(self, m, x, ctx))
        return seen["y"]

    object.__setattr__(op, "forward", forward.__get__(op))
    with torch.no_grad():
        model(**IMAGE)
    return seen["x"], seen["y"], model.get_submodule(layer)


def attention(x, m, bias):
    """Softmax attention with a matrix (H, T, T) or (T, T) added to the scores."""
    q, k, v = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (m.q, m.k, m.v))
    weights = torch.softmax(q @ k.transpose(2, 3) * 0.5 + bias, dim=-1)
    return m.o((weights @ v).transpose(1, 2).flatten(2))


def test_groups_are_attention_under_a_block_diagonal_mask():
    for dealt in (False, True):
        op = GroupAttention(scale=0.5, groups=4, dealt=dealt)
        x, y, m = around(on_image([branch(op, **HEADS)], image=8))
        token = torch.arange(16)
        group = token % 4 if dealt else token // 4
        mask = torch.where(group[:, None] == group[None, :], 0.0, -torch.inf)
        assert torch.allclose(y, attention(x, m, mask), atol=1e-5)


def test_the_bias_is_that_of_the_distance():
    x, y, m = around(on_image([branch(OffsetAttention(scale=0.5, grid=(4, 4)), **HEADS)], image=8))
    bias = torch.stack([
        torch.stack([m.bias_table[abs(a // 4 - b // 4) * 4 + abs(a % 4 - b % 4)] for b in range(16)]) for a in range(16)
    ])  # fmt: skip
    assert torch.allclose(y, attention(x, m, bias.permute(2, 0, 1)), atol=1e-5)
    assert not torch.allclose(y, attention(x, m, torch.zeros(16, 16)), atol=1e-2)


def test_cells_outside_of_the_grid_take_no_part_in_a_mean():
    x, y, _ = around(on_image([branch(GridPool(minus_input=True))], image=8))
    grid = x.unflatten(1, (4, 4))
    corner = grid[:, :2, :2].mean((1, 2)) - grid[:, 0, 0]
    inner = grid[:, 1:4, 0:3].mean((1, 2)) - grid[:, 2, 1]
    assert torch.allclose(y[:, 0], corner, atol=1e-6) and torch.allclose(y[:, 9], inner, atol=1e-6)


def test_sequence_pooling_is_a_weighted_mean():
    arch = pooled_by(on_image([branch(Mlp(act="relu"), hidden=8)], image=8), SeqPool())
    x, y, m = around(arch, "head.pool")
    weights = torch.softmax((x @ m.score.weight[0]) + m.score.bias, dim=1)
    assert torch.allclose(y, torch.einsum("bt,btd->bd", weights, x), atol=1e-6)


def test_coefficients_stand_on_the_stream_and_on_the_branch():
    arch = on_image(weighed(branch(Mlp(act="gelu"), hidden=8)), image=8)
    x, _, _ = around(arch, "b0.keep")
    model = made(arch).module()
    m = model.b0
    with torch.no_grad():
        inner = m.op.fc2(torch.nn.functional.gelu(m.op.fc1(m.op.pre(x))))
        expected = model.final.norm.pre(m.keep.gain * x + m.gain.gain * inner)
        assert torch.allclose(model(**IMAGE)["hidden"], expected, atol=1e-6)


def test_global_response_normalisation():
    op = Mlp(act="relu", norm=NormSpec("grn", 1e-6))
    x, y, m = around(on_image([branch(op, hidden=8)], image=8))
    h = torch.relu(m.fc1(x))
    norms = h.square().sum(1, keepdim=True).sqrt()
    h = m.norm.weight * (h * norms / (norms.mean(-1, keepdim=True) + 1e-6)) + m.norm.bias + h
    assert torch.allclose(y, m.fc2(h), atol=1e-5)
