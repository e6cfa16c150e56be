"""iTransformer is what its code says: torch's own encoder layers over variates, with their parameters and outputs."""

import pytest
import torch
from torch import nn

from archtool.ir.cost import parameters
from archtool.model.build import build
from archtool.zoo.itransformer import architecture


class Reference(nn.Module):
    """The modules of the reference: an embedding of the past, post-norm encoder layers, a norm, a projector."""

    def __init__(self, past, future, depth, width, hidden):
        super().__init__()
        self.embed = nn.Linear(past, width)
        layer = nn.TransformerEncoderLayer(width, 8, hidden, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.projector = nn.Linear(width, future)

    def forward(self, past_BTV):
        mean = past_BTV.mean(1, keepdim=True)
        std = torch.sqrt(past_BTV.var(1, keepdim=True, unbiased=False) + 1e-5)
        encoded = self.encoder(self.embed(((past_BTV - mean) / std).transpose(1, 2)))
        return self.projector(encoded).transpose(1, 2) * std + mean


@pytest.mark.parametrize(("depth", "width", "hidden"), [(2, 512, 512), (2, 512, 2048), (3, 512, 512), (4, 512, 2048)])
def test_parameters_are_those_of_the_reference(depth, width, hidden):
    with torch.device("meta"):
        theirs = sum(p.numel() for p in Reference(96, 96, depth, width, hidden).parameters())
    assert parameters(architecture(96, 96, 321, depth, width, hidden)) == theirs


def test_outputs_are_those_of_the_reference():
    torch.manual_seed(0)
    reference = Reference(12, 5, 2, 16, 24).eval()
    model = build(architecture(12, 5, 3, 2, 16, 24), std=0.3).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
    mine = model.state_dict()
    names = {"embed": "embed.variates.project", "encoder.norm": "final.norm.pre", "projector": "head.future.proj"}
    for i in range(2):
        at = f"encoder.layers.{i}"
        names |= {f"{at}.self_attn.out_proj": f"b{i}.attn.o", f"{at}.linear1": f"b{i}.ffn.fc1"}
        names |= {f"{at}.linear2": f"b{i}.ffn.fc2", f"{at}.norm1": f"b{i}.attn.post", f"{at}.norm2": f"b{i}.ffn.post"}
    made = {f"{theirs}.{leaf}": mine[f"{ours}.{leaf}"] for theirs, ours in names.items() for leaf in ("weight", "bias")}
    for i in range(2):
        for leaf in ("weight", "bias"):
            fused = torch.cat([mine[f"b{i}.attn.{part}.{leaf}"] for part in "qkv"])
            made[f"encoder.layers.{i}.self_attn.in_proj_{leaf}"] = fused
    reference.load_state_dict(made)
    past = 2 + torch.randn(4, 12, 3)
    with torch.no_grad():
        assert (model(past_values=past)["forecast"] - reference(past)).abs().max() <= 1e-5
