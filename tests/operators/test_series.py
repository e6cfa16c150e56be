"""The maths of the operators on series, each against a few lines of plain torch."""

from dataclasses import replace

import pytest
import torch

from archtool.operators.axis import AlongAxes
from archtool.operators.continuous import Continuous
from archtool.operators.residual_attention import ResidualAttention
from archtool.operators.revin import RevIn
from archtool.operators.samples import alone, branch, in_text, on_image
from archtool.operators.series_samples import forecaster, on_series, timed
from archtool.operators.series_stem import SeriesStem
from tests.operators.checks import made


def series(rows=24, variates=3):
    return torch.randn(2, rows, variates, generator=torch.Generator().manual_seed(0)) * 3 + 5


@pytest.mark.parametrize("mode", ["std", "mean"])
def test_what_was_scaled_away_comes_back(mode):
    arch = forecaster(scale=RevIn(variates=3, mode=mode, affine=True))
    model, past = made(arch).module(), series()
    moved = past * torch.tensor([2.0, 0.5, 7.0]) + (torch.tensor([100.0, -5.0, 0.0]) if mode == "std" else 0.0)
    with torch.no_grad():
        first, second = model(past_values=past)["forecast"], model(past_values=moved)["forecast"]
    expected = first * torch.tensor([2.0, 0.5, 7.0]) + (torch.tensor([100.0, -5.0, 0.0]) if mode == "std" else 0.0)
    assert torch.allclose(second, expected, rtol=1e-3, atol=1e-3)
    assert model.get_parameter("head.restore.gain") is model.get_parameter("embed.scale.gain")


@pytest.mark.parametrize(("form", "shared"), [("apart", True), ("apart", False), ("together", True), ("joint", True)])
def test_patches_end_with_the_last_row(form, shared):
    stem = SeriesStem(variates=3, patch=5, stride=4, pad=1, form=form, shared=shared)
    model, past = made(on_series(stem=stem)).module(), series()
    seen = []
    model.b0.op.pre.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    with torch.no_grad():
        model(past_values=past)
    padded, m = torch.cat((past, past[:, -1:]), dim=1), model.embed.patches
    ends = [25 - 4 * i for i in reversed(range(6))]
    patches = torch.stack([padded[:, end - 5 : end] for end in ends], dim=1)
    if form == "joint":
        expected = m.project(patches.transpose(2, 3).flatten(2))
    else:
        maps = [m.project] * 3 if shared else [m.project0, m.project1, m.project2]
        each = [maps[v](patches[..., v]) for v in range(3)]
        expected = torch.stack(each, dim=1).flatten(0, 1) if form == "apart" else torch.cat(each, dim=1)
    assert torch.allclose(seen[0], expected, atol=1e-5)


@pytest.mark.parametrize("now", [(0,), (1,), (0, 1)])
def test_along_an_axis_and_back(now):
    seen = []
    there, back = AlongAxes(before=(0, 1), now=now), AlongAxes(before=now, now=(0, 1))
    arch = on_image([alone(there)], [alone(back)], image=12, patch=4)
    arch = replace(arch, facts=(("image_height", 12), ("image_width", 20)))
    model = made(arch).module()
    image = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens_BRCD = model.embed.patches.patches(image).permute(0, 2, 3, 1)
        model.final.norm.pre.register_forward_hook(lambda _, args, out: seen.append(args[0]))
        model(pixel_values=image)
        graph = there.forward(None, tokens_BRCD.flatten(1, 2), Flowing(arch))
    assert torch.equal(seen[0], tokens_BRCD.flatten(1, 2))
    by_hand = {(0,): tokens_BRCD.transpose(1, 2).flatten(0, 1), (1,): tokens_BRCD.flatten(0, 1)}
    assert torch.equal(graph, by_hand.get(now, tokens_BRCD.flatten(1, 2)))


class Flowing:
    """A pass at the place of the first block."""

    def __init__(self, arch):
        from archtool.ir.architecture import place_flows
        from archtool.ir.feeds import entering

        along = zip(arch.places, place_flows(arch, entering(arch)), strict=True)
        self.flow = next(flow for place, flow in along if place.block.name == "b0")


@pytest.mark.parametrize("form", ["fourier", "time2vec"])
def test_equal_times_get_equal_positions(form):
    op = Continuous(coordinates=2, waves=4, form=form)
    arch = timed(op, variates=3, joint=False, **({"bands": 4} if form == "time2vec" else {}))
    model, past, time = made(arch).module(), series(), torch.rand(2, 24, 2)
    m, seen = model.b0.time, []
    m.project.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    with torch.no_grad():
        model(past_values=past, past_time_features=time)
        other = model(past_values=past, past_time_features=time + 0.1)["hidden"]
        again = model(past_values=past, past_time_features=time)["hidden"]
    if form == "fourier":
        angles = torch.cat([time[..., k : k + 1] * m.frequency for k in range(2)], dim=-1)
        expected = torch.cat((angles.sin(), angles.cos()), dim=-1)
        assert m.frequency[0] == 1 and m.frequency[-1] == 1000
    else:
        expected = torch.cat((m.trend(time), m.wave(time).sin()), dim=-1)
    assert torch.allclose(seen[0], expected, atol=1e-5)
    assert (other - again).abs().max() > 1e-3


def test_scores_add_up_over_the_layers():
    def layer(after):
        return branch(ResidualAttention(scale=0.3, after=after), kv=2, group=1, qk=4, v=4)

    model = made(in_text([layer("")], [layer("b0.op")], [layer("b1.op")])).module()
    ids = torch.randint(0, 31, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x, total = model.embed.tokens.token(ids), 0.0
        for i in range(3):
            m = model.get_submodule(f"b{i}.op")
            q, k, v = (part(m.pre(x)).unflatten(-1, (2, 4)).transpose(1, 2) for part in (m.q, m.k, m.v))
            total = total + q @ k.transpose(2, 3) * 0.3
            x = x + m.o((total.softmax(-1) @ v).transpose(1, 2).flatten(2))
        expected = model.final.norm.pre(x)
        assert torch.allclose(model(input_ids=ids)["hidden"], expected, atol=1e-5)
