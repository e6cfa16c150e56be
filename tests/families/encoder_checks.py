"""Shared by the encoder tests: outputs against a reference, configurations there and back, wrong orders."""

import pytest
import torch

from archtool.errors import InputError
from tests.families.parity import file_tensors, ours, perturbed

torch.set_num_threads(1)
MODEL_FIELDS = {"hidden": "last_hidden_state", "pooled": "pooler_output", "logits": "logits"}


def shapes_of(tensors):
    return {name: tuple(t.shape) for name, t in tensors.items()}


def compared(reference, model, inputs, fields=MODEL_FIELDS, tolerance=1e-5):
    """Largest difference over the outputs that both have (images as tokens); at least one must be there."""
    with torch.inference_mode():
        theirs, mine = reference(**inputs), model(**inputs)
    known = {k: theirs[f] for k, f in fields.items() if k in mine and f in theirs and theirs[f] is not None}
    pairs = {k: v.flatten(2).transpose(1, 2) if (mine[k].dim(), v.dim()) == (3, 4) else v for k, v in known.items()}
    assert pairs
    worst = max(float((mine[k] - v).abs().max()) for k, v in pairs.items())
    assert all(mine[k].shape == v.shape for k, v in pairs.items())
    assert worst <= tolerance, worst
    return worst


def saved(reference, tmp_path):
    """A perturbed reference, its file tensors and its configuration."""
    perturbed(reference)
    tensors, config = file_tensors(reference, tmp_path)
    return tensors, config


def check_config(family, config, tensors, arch, config_class):
    """Identity over the original; from nothing, a configuration that reads back to the same architecture."""
    assert family.write(arch, config) == config
    fresh = family.write(arch, {})
    assert family.read(fresh, shapes_of(tensors)) == arch
    loaded = config_class.from_dict(dict(fresh)).to_dict()
    assert {k: loaded[k] for k in fresh if k in loaded} == {k: v for k, v in fresh.items() if k in loaded} | {
        k: loaded[k] for k in ("id2label",) if k in fresh
    }
    return fresh


def check_loads(family, arch, tensors, model, model_class, config_class, inputs, folder):
    """The class that the fresh configuration names loads the same tensors and gives the same outputs."""
    import json

    from safetensors.torch import save_file

    fresh = family.write(arch, {})
    assert fresh["architectures"] == [model_class.__name__]
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fresh))
    compared(model_class.from_pretrained(folder).eval(), model, inputs)


def check_unknown_key(family, config, tensors):
    with pytest.raises(InputError, match="surprise_feature"):
        family.read({**config, "surprise_feature": 3}, shapes_of(tensors))


def swapped_heads(tensors, name, head_dim):
    """The tensors with the first two heads' rows of one projection exchanged."""
    weight = tensors[name].clone()
    weight[: 2 * head_dim] = torch.cat((weight[head_dim : 2 * head_dim], weight[:head_dim]))
    return {**tensors, name: weight}


def check_wrong_order_differs(family, config, tensors, name, head_dim, inputs):
    right, _ = ours(family, config, tensors)
    wrong, _ = ours(family, config, swapped_heads(tensors, name, head_dim))
    with torch.inference_mode():
        assert float((right(**inputs)["hidden"] - wrong(**inputs)["hidden"]).abs().max()) > 1e-3
