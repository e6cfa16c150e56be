"""Mixers against their papers' formulas, written out plainly; layouts against torch's own."""

import pytest
import torch

from archtool.errors import InputError
from archtool.ir.validate import validate
from archtool.measure.inputs import example_inputs
from archtool.operators.attention import Attention
from archtool.operators.block_attention import BlockAttention
from archtool.operators.channel_attention import ChannelAttention
from archtool.operators.channel_split import ChannelSplit
from archtool.operators.latent_attention import LatentAttention
from archtool.operators.samples import branch, followed, in_text, on_image
from archtool.operators.up_shuffle import UpShuffle
from tests.operators.checks import made


def layer_of(arch):
    """The parts of ``b0.op``, its operator's output on a random stream, and that stream."""
    module = made(arch).module().double()
    seen = {}
    place = module.get_submodule("b0.op")
    place.pre.register_forward_hook(lambda _, inputs, out: seen.update(x=out))
    place.o.register_forward_hook(lambda _, inputs, out: seen.update(mixed=inputs[0]))
    feed = example_inputs(arch, 2, 11)
    with torch.no_grad():
        module(**{name: v.double() if v.is_floating_point() else v for name, v in feed.items() if "mask" not in name})
    return place, seen["x"], seen["mixed"]


def test_channel_attention_is_xca():
    place, x, mixed = layer_of(in_text([branch(ChannelAttention(), kv=2, v=3, inner=5)]))
    with torch.no_grad():
        q, k, v = (y.reshape(2, 11, 2, -1) for y in (place.q(x), place.k(x), place.v(x)))
        q, k = (y / y.norm(dim=1, keepdim=True) for y in (q, k))
        scores = torch.einsum("bthi,bthj->bhij", q, k) * place.temperature
        expected = torch.einsum("bhij,bthj->bthi", scores.softmax(-1), v)
    assert torch.allclose(mixed, expected.flatten(2), atol=1e-10)


def test_latent_attention_is_transolvers():
    sizes = {"kv": 2, "assign": 4, "inner": 6, "qk": 3, "v": 5, "latents": 3}
    place, x, mixed = layer_of(in_text([branch(LatentAttention(scale=0.7), **sizes)]))
    for head in range(2):
        with torch.no_grad():
            assign, fields = (
                place.assign(x).reshape(2, 11, 2, 4)[:, :, head],
                place.fields(x).reshape(2, 11, 2, 6)[:, :, head],
            )
            share = ((assign @ place.latents.T + place.offset) * place.temperature[head]).softmax(-1)
            slices = torch.einsum("bts,bti->bsi", share, fields) / (share.sum(1)[..., None] + 1e-5)
            q, k, v = (slices @ matrix.T for matrix in (place.q, place.k, place.v))
            among = (q @ k.transpose(1, 2) * 0.7).softmax(-1) @ v
            expected = torch.einsum("bts,bsv->btv", share, among)
        assert torch.allclose(mixed.reshape(2, 11, 2, 5)[:, :, head], expected, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_one_block_is_full_attention(causal):
    full = in_text([branch(Attention(scale=0.5, causal=causal), kv=2, group=1, qk=4, v=6)])
    blocks = in_text([branch(BlockAttention(scale=0.5, block=16, causal=causal), kv=2, qk=4, v=6)])
    assert torch.allclose(layer_of(full)[2], layer_of(blocks)[2], atol=1e-10)


def test_equal_keys_in_every_block_give_full_attention():
    generator = torch.Generator().manual_seed(0)
    q, v = (torch.randn(2, 3, 11, n, generator=generator).double() for n in (4, 6))
    k = torch.randn(2, 3, 3, 4, generator=generator).double().repeat_interleave(4, dim=2)[:, :, :11]
    real = torch.ones(2, 11).double()
    real[1, 9:] = 0
    op = BlockAttention(scale=0.5, block=4)

    def differ():
        full = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=real.bool()[:, None, None], scale=0.5
        )
        return (op._blocked(q, k, v, real) - full).abs().max()

    assert differ() < 1e-10
    k[:, :, 0] += 1
    assert differ() > 1e-3


def test_up_shuffle_is_pixel_shuffle():
    op, x = UpShuffle(ratio=2), torch.randn(2, 6, 12)

    class M:
        expand = torch.nn.Identity()

    class Ctx:
        class flow:
            grid = (2, 3)

    cells = x.unflatten(-1, (2, 2, 3)).permute(0, 1, 4, 2, 3).flatten(2).transpose(1, 2).unflatten(2, (2, 3))
    expected = torch.nn.functional.pixel_shuffle(cells, 2)
    assert torch.equal(op.forward(M, x, Ctx), expected.flatten(2).transpose(1, 2))


def test_a_split_needs_groups():
    arch = followed(on_image([branch(ChannelAttention(), kv=2, v=3, inner=5)]), ChannelSplit(index=0))
    with pytest.raises(InputError, match="group 0"):
        validate(arch)
