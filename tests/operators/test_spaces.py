"""Operators of published search spaces against a plain statement of what they compute."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from archtool.model.build import build
from archtool.operators.dual_scan import dual_scan, recurrence
from archtool.operators.grid_attention import GridAttention
from archtool.operators.hyena import Hyena, direct_convolution, long_convolution
from archtool.operators.merged_attention import Merge, MergedAttention, matched, pooled
from archtool.operators.neighbourhood import NeighbourhoodAttention
from archtool.operators.reduced_attention import ReducedAttention
from archtool.operators.residual_reduction import ResidualReduction
from archtool.operators.samples import alone, branch, on_image
from archtool.operators.stripe_attention import StripeAttention
from archtool.operators.up_repeat import UpRepeat

SIZES = {"kv": 2, "qk": 4, "v": 6}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(op, image=16, **sizes):
    """The operator on a grid of ``image / 2``: its parts, and what it makes of a stream."""
    arch = on_image([alone(op, **sizes)], image=image)
    model = build(arch, 0, std=0.3).eval()
    parts = model.get_submodule("b0.op")
    seen = {}
    with torch.no_grad():
        for p in parts.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        forward = type(op).forward

        def watched(self, m, x, ctx):
            seen["x"] = x
            seen["y"] = forward(self, m, x, ctx)
            return seen["y"]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(op), "forward", watched)
            model(pixel_values=random(2, 3, image, image))
    return parts, seen["x"], seen["y"]


def attended(m, x, allowed, scale, bias=0.0):
    """Full attention with a mask of allowed pairs (T, T)."""
    heads = m.heads.shape[0]
    q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (m.q(x), m.k(x), m.v(x)))
    scores = (q @ k.transpose(2, 3) * scale + bias).masked_fill(~allowed, -torch.inf)
    return m.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def cells(rows, columns):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def test_chunks_of_a_dual_scan_are_its_recurrence():
    c, b, x = (random(2, 3, 150, n, seed=i) for i, n in enumerate((5, 5, 4)))
    decay, state = -random(2, 3, 150, seed=4).abs(), random(2, 3, 5, 4, seed=5)
    for mine, expected in zip(dual_scan(c, b, x, decay, state), recurrence(c, b, x, decay, state), strict=True):
        assert torch.allclose(mine, expected, atol=1e-4)
    by_hand = torch.zeros(2, 3, 5, 4) + state
    for t in range(3):
        by_hand = decay[:, :, t, None, None].exp() * by_hand + b[:, :, t, :, None] * x[:, :, t, None]
        assert torch.allclose(
            recurrence(c, b, x, decay, state)[0][:, :, t], (c[:, :, t, :, None] * by_hand).sum(2), atol=1e-5
        )


def test_long_convolution_is_a_direct_sum():
    x, taps = random(2, 21, 3), random(21, 3, seed=1)
    expected = torch.stack([sum(taps[t - s] * x[:, s] for s in range(t + 1)) for t in range(21)], 1)
    assert torch.allclose(long_convolution(x, taps), expected, atol=1e-5)
    assert torch.allclose(direct_convolution(x, taps), expected, atol=1e-5)


def test_hyena_refuses_two_filters():
    with pytest.raises(ValueError, match="explicit"):
        Hyena(kernel=4, waves=4)


def test_neighbourhoods_are_masked_attention():
    op = NeighbourhoodAttention(scale=0.5, kernel=(3, 5), moved=False, table=False)
    m, x, y = layer(op, **SIZES)
    apart = (cells(8, 8)[:, None] - cells(8, 8)).abs()
    allowed = (apart[..., 0] <= 1) & (apart[..., 1] <= 2)
    assert torch.allclose(y, attended(m, x, allowed, 0.5), atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_moved_neighbourhood_has_as_many_tokens_at_a_border(dilation):
    m, x, y = layer(NeighbourhoodAttention(scale=0.5, kernel=(3, 3), dilation=dilation), **SIZES)
    at = cells(8, 8)
    kept, bias = torch.zeros(64, 64, dtype=torch.bool), torch.zeros(2, 64, 64)
    for i, (row, column) in enumerate(at.tolist()):
        sides = []
        for own in (row, column):
            line = list(range(own % dilation, 8, dilation))
            start = min(max(line.index(own) - 1, 0), len(line) - 3)
            sides.append([(line[j], j - line.index(own) + 2) for j in range(start, start + 3)])
        for r, dr in sides[0]:
            for c, dc in sides[1]:
                kept[i, r * 8 + c] = True
                bias[:, i, r * 8 + c] = m.table[dr * 5 + dc]
    assert (kept.sum(-1) == 9).all()
    assert torch.allclose(y, attended(m, x, kept, 0.5, bias), atol=1e-5)


def test_dilated_groups_take_every_nth_cell():
    m, x, y = layer(GridAttention(window=4, scale=0.5), **SIZES)
    at = cells(8, 8)
    same = ((at[:, None] % 2) == (at % 2)).all(-1)
    apart = (at[:, None] - at) // 2 + 3
    bias = m.table[apart[..., 0] * 7 + apart[..., 1]].permute(2, 0, 1)
    assert torch.allclose(y, attended(m, x, same, 0.5, bias), atol=1e-5)


def test_stripes_are_masked_attention_with_a_convolution_of_the_values():
    m, x, y = layer(StripeAttention(scale=0.5, width=2), **SIZES)
    at, made = cells(8, 8), []
    for i, conv in enumerate((m.rows, m.columns)):
        q, k, v = (p(x).chunk(2, -1)[i].unflatten(-1, (2, -1)).transpose(1, 2) for p in (m.q, m.k, m.v))
        same = at[:, None, i] // 2 == at[:, i] // 2
        mixed = (q @ k.transpose(2, 3) * 0.5).masked_fill(~same, -torch.inf).softmax(-1) @ v
        image = v.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (8, 8))
        local = torch.zeros_like(image)
        for first in range(0, 8, 2):
            inside = (slice(None), slice(None), slice(first, first + 2)) if i == 0 else (..., slice(first, first + 2))
            local[inside] = F.conv2d(image[inside], conv.weight, conv.bias, padding=1, groups=12)
        made.append(mixed.transpose(1, 2).flatten(2) + local.flatten(2).transpose(1, 2))
    assert torch.allclose(y, m.o(torch.cat(made, -1)), atol=1e-5)


def test_merging_nothing_is_reduced_attention():
    sizes = {**SIZES, "inner": 12}
    merged = MergedAttention(scale=0.5, ratio=2)
    plain = ReducedAttention(scale=0.5, ratio=2)
    assert torch.equal(layer(merged, **sizes)[2], layer(plain, **sizes)[2])
    whole = dataclasses.replace(merged, queries=Merge((1, 1)), keys=Merge((1, 1)))
    assert torch.allclose(layer(whole, **sizes)[2], layer(plain, **sizes)[2], atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.6, 0.9])
def test_matched_tokens_come_back_in_order(share):
    x, how = random(3, 48, 8), Merge((2, 2), share)
    merged, back = matched(x, how, (6, 8))
    assert merged.shape == (3, how.left((6, 8)), 8)
    restored = back(merged)
    assert restored.shape == x.shape
    same = (restored == x).all(-1).sum(-1)
    assert (same >= 48 - 2 * how.merged((6, 8))).all()  # whoever met nobody is itself, in its own place
    weights = torch.stack([(restored[0] == row).all(-1).sum() for row in merged[0]])
    assert weights.sum() == 48 and torch.allclose((merged[0] * weights[:, None]).sum(0), x[0].sum(0), atol=1e-4)


def test_the_most_similar_tokens_merge_first():
    x = random(1, 16, 8)
    x[0, 1] = 3 * x[0, 10]  # (0, 1) is like the staying token (2, 2), whose length does not count
    merged, back = matched(x, Merge((2, 2), 1 / 16), (4, 4))
    restored = back(merged)
    assert torch.allclose(restored[0, 1], 2 * x[0, 10]) and torch.allclose(restored[0, 10], 2 * x[0, 10])
    others = [i for i in range(16) if i not in (1, 10)]
    assert torch.equal(restored[0, others], x[0, others])


def test_pooled_patches_at_the_edge_are_means_of_what_is_there():
    x = random(2, 15, 4)
    merged, back = pooled(x, (2, 2), (3, 5))
    expected = F.avg_pool2d(x.transpose(1, 2).unflatten(2, (3, 5)), 2, ceil_mode=True)
    assert torch.allclose(merged, expected.flatten(2).transpose(1, 2), atol=1e-6)
    again = F.interpolate(expected, scale_factor=2)[..., :3, :5].flatten(2).transpose(1, 2)
    assert torch.allclose(back(merged), again, atol=1e-6)


def test_a_reduction_with_a_zero_convolution_is_its_skip():
    op = ResidualReduction(into="s0.width", bias=False)
    m, x, _ = layer(op)
    with torch.no_grad():
        m.conv.weight.zero_()

    class Here:
        flow = type("Flow", (), {"grid": (8, 8)})

    squares = x.unflatten(1, (4, 2, 4, 2)).mean((2, 4)).flatten(1, 2)
    assert torch.allclose(op.forward(m, x, Here), m.project(squares), atol=1e-6)


def test_copies_are_nearest_neighbours():
    _, x, y = layer(UpRepeat(ratio=3), image=8)
    image = F.interpolate(x.transpose(1, 2).unflatten(2, (4, 4)), scale_factor=3)
    assert torch.equal(y, image.flatten(2).transpose(1, 2))


def test_a_shifted_dilated_group_is_refused():
    with pytest.raises(ValueError, match="not shifted"):
        GridAttention(window=4, shift=2, scale=0.5)
    assert branch(GridAttention(window=4, scale=0.5))[0].op.kind == "mix.attn.dilated"
