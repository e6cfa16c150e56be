"""Shared by the family tests: a perturbed random transformers model against ours, through the name table."""

import torch

from archtool.families.base import Family
from archtool.ir.table import shape, stored
from archtool.model.build import Model, with_values
from archtool.model.layout import join, split


def perturbed(model, seed=0):
    """Every weight moved off its initial value, so that no gain is 1 and no bias 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
        for name, b in model.named_buffers():
            if "running" in name:
                b.add_(torch.rand(b.shape, generator=generator))
    return model.eval()


def lively(model, seed=0):
    """Weights under which every layer matters: BatchNorm's small initial gains would let all but the last ones fade."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.dim() > 1:
                tensor.copy_(noise * (2.0 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                tensor.copy_(noise * 0.3 + name.endswith(("norm.weight", "normalization.weight", "before.weight")))
            else:
                tensor.fill_(7)
    return model.eval()


def file_tensors(model, tmp_path):
    """Names and tensors as transformers writes them to disk, and the config it writes."""
    import json

    from safetensors.torch import load_file

    model.save_pretrained(tmp_path)
    return load_file(tmp_path / "model.safetensors"), json.loads((tmp_path / "config.json").read_text())


def ours(family: Family, config, tensors):
    """Our model with the file's weights; checks that each file tensor is claimed exactly once and comes back."""
    arch = family.read(config, {name: tuple(t.shape) for name, t in tensors.items()})
    specs = stored(arch)
    values, claimed = {}, []
    for e in family.names(arch):
        shapes = [shape(specs[piece], arch) for piece in e.pieces]
        assert e.file_shape(shapes) == tuple(tensors[e.file].shape), e
        pieces = split(e, tensors[e.file], shapes)
        assert torch.equal(join(e, pieces), tensors[e.file])
        values.update(zip(e.pieces, pieces, strict=True))
        claimed.append(e.file)
    assert len(set(claimed)) == len(claimed)
    assert set(claimed) <= set(tensors)
    assert all(family.carried(n) for n in set(tensors) - set(claimed))
    assert set(values) == set(specs)
    return with_values(Model(arch), values.__getitem__).eval(), arch
