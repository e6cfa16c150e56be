"""Shared by the decoder tests: outputs against transformers, configurations there and back, generation."""

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file

from archtool.errors import InputError
from archtool.ir.table import stored
from archtool.model.build import Model, with_values
from archtool.model.generate import generate
from tests.families.parity import file_tensors, ours, perturbed

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
VOCAB = 37
CAPS = ("attn_logit_softcapping", "final_logit_softcapping")


def shapes_of(tensors):
    return {name: tuple(t.shape) for name, t in tensors.items()}


def made(class_name, settings, folder):
    """A perturbed random reference (eager attention), its file tensors and its configuration."""
    cls = getattr(transformers, class_name)
    torch.manual_seed(0)
    config = cls.config_class.from_dict(dict(settings))
    config._attn_implementation = "eager"
    reference = perturbed(cls(config))
    tensors, written = file_tensors(reference, folder)
    return reference, tensors, written


def inputs_of(rows=3, tokens=11, pad=None):
    """Ids alone, and with right padding in one row and left padding in another."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCAB, (rows, tokens), generator=generator)
    mask = torch.ones(rows, tokens, dtype=torch.int64)
    mask[0, 7:], mask[1, :4] = 0, 0
    padded = ids if pad is None else ids.masked_fill(mask == 0, pad)
    return [{"input_ids": ids}, {"input_ids": padded, "attention_mask": mask}]


def theirs(reference, inputs):
    """The reference's outputs by our names; ``hidden`` is what the body gives."""
    seen = {}
    body = getattr(reference, reference.base_model_prefix, reference)
    hook = body.register_forward_hook(lambda m, a, out: seen.update(hidden=out.last_hidden_state))
    out = reference(**inputs)
    hook.remove()
    return seen | ({"logits": out.logits} if "logits" in out else {})


def difference(reference, model, inputs, outputs=("hidden", "logits")):
    """Largest difference over the outputs at real tokens."""
    with torch.inference_mode():
        expected, got = theirs(reference, inputs), model(**inputs)
    assert set(expected) == set(got)
    real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    worst = 0.0
    for name, value in ((n, v) for n, v in expected.items() if n in outputs):
        mine = got[name]
        assert mine.shape == value.shape and mine.dtype == value.dtype
        pair = (mine[real], value[real]) if value.dim() == 3 else (mine, value)
        worst = max(worst, float((pair[0] - pair[1]).abs().max()))
    return worst


def check_parity(family, reference, config, tensors, pad=None, tolerance=1e-5):
    """Every file tensor is claimed, outputs agree; returns our model, its architecture and the difference."""
    model, arch = ours(family, config, tensors)
    worst = max(difference(reference, model, inputs) for inputs in inputs_of(pad=pad))
    assert worst <= tolerance, worst
    return model, arch, worst


def check_config(family, arch, config, tensors, model, reference, folder):
    """Over the original: identity. From nothing: reads back, and transformers loads the same function."""
    assert family.write(arch, config) == config
    fresh = family.write(arch, {})
    assert {k for k, v in fresh.items() if v is None} <= {"sliding_window", "pad_token_id", *CAPS}
    assert family.read(fresh, shapes_of(tensors)) == arch
    assert family.write(arch, fresh) == fresh
    assert fresh["architectures"] == [type(reference).__name__]
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fresh))
    again = type(reference).from_pretrained(folder, attn_implementation="eager").eval()
    assert difference(again, model, inputs_of()[0]) <= 1e-5


def check_unknown_key(family, config, tensors):
    with pytest.raises(InputError, match="surprise_feature"):
        family.read({**config, "surprise_feature": 3}, shapes_of(tensors))


def refused(family, config, tensors, match, **changes):
    with pytest.raises(InputError, match=match):
        family.read({**config, **changes}, shapes_of(tensors))


def in_dtype(model, dtype):
    """Our model with its tensors in another dtype (derived tables stay as they are)."""
    values = {name: model.get_parameter(name).to(dtype) for name in stored(model.architecture)}
    return with_values(Model(model.architecture), values.__getitem__).eval()


def check_dtypes(model, reference, folder, attention="sdpa", outputs=("hidden", "logits"), tolerance=2e-2):
    """bfloat16 is close to transformers' own bfloat16; float64 is close to our float32."""
    inputs = inputs_of()[0]
    reference.save_pretrained(folder)
    cls = type(reference)
    half = cls.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention).eval()
    worst = difference(half, in_dtype(model, torch.bfloat16), inputs, outputs)
    assert worst <= tolerance, worst
    with torch.inference_mode():
        wide, plain = in_dtype(model, torch.float64)(**inputs), model(**inputs)
    assert all(wide[k].dtype == torch.float64 and (wide[k] - plain[k]).abs().max() < 1e-4 for k in plain)
    return worst


def check_generation(model, reference, tokens=6, steps=14):
    """With a cache, without it, and by transformers: the same tokens and, step by step, the same logits."""
    ids = inputs_of(tokens=tokens)[0]["input_ids"]
    kept, again = generate(model, ids, steps), generate(model, ids, steps, cache=False)
    expected = reference.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=steps, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    assert torch.equal(kept, again) and torch.equal(kept, expected)
    with torch.inference_mode():
        whole, state = model(input_ids=kept)["logits"], {}
        parts = [model(input_ids=part, state=state)["logits"] for part in kept.split([4, 3, 1, kept.shape[1] - 8], 1)]
    assert (torch.cat(parts, 1) - whole).abs().max() <= 1e-5
