"""Shared by the encoder-decoder tests: outputs against transformers, configurations there and back, generation."""

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file

from archtool.errors import InputError
from archtool.model.generate import generate
from tests.families.decoder_checks import shapes_of
from tests.families.parity import file_tensors, ours, perturbed

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
VOCAB = 37


def made(class_name, settings, folder, change=None):
    """A perturbed random reference (eager attention) as it reloads, its file tensors and its configuration."""
    cls = getattr(transformers, class_name)
    torch.manual_seed(0)
    model = perturbed(cls(cls.config_class.from_dict(dict(settings))))
    if change:
        change(model)
    tensors, written = file_tensors(model, folder)
    return cls.from_pretrained(folder, attn_implementation="eager").eval(), tensors, written


def inputs_of(encoder_only=False, words=VOCAB, rows=3):
    """Ids alone; and with right and left padding of the encoder's input and a mask of the decoder's."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCAB, (rows, 19), generator=generator)
    begun = torch.randint(3, words, (rows, 14), generator=generator)
    mask, seen = torch.ones_like(ids), torch.ones_like(begun)
    mask[0, 11:], mask[1, :4], seen[2, 9:], seen[0, :2] = 0, 0, 0, 0
    if encoder_only:
        return [{"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}]
    plain = {"input_ids": ids, "decoder_input_ids": begun}
    return [plain, {**plain, "attention_mask": mask}, {**plain, "attention_mask": mask, "decoder_attention_mask": seen}]


def theirs(reference, inputs):
    """The reference's outputs by our names."""
    seen = {}
    body = getattr(reference, "decoder", None) or getattr(getattr(reference, "model", reference), "decoder", None)
    hook = (body or reference).register_forward_hook(lambda m, a, out: seen.update(hidden=out.last_hidden_state))
    out = reference(**inputs)
    hook.remove()
    return seen | ({"logits": out.logits} if "logits" in out else {})


def difference(reference, model, inputs):
    """Largest difference over the outputs at real tokens."""
    with torch.inference_mode():
        expected, got = theirs(reference, inputs), model(**inputs)
    assert set(expected) == set(got)
    last = model.architecture.inputs[-1]
    real = inputs.get(last.replace("input_ids", "attention_mask"), torch.ones_like(inputs[last])).bool()
    assert all(got[name].shape == value.shape for name, value in expected.items())
    return max(float((got[name] - value)[real].abs().max()) for name, value in expected.items())


def check_parity(family, reference, config, tensors, words=VOCAB, tolerance=1e-5):
    """Every file tensor is claimed and outputs agree; returns our model and its architecture."""
    model, arch = ours(family, config, tensors)
    worst = max(difference(reference, model, i) for i in inputs_of(len(arch.inputs) == 1, words))
    assert worst <= tolerance, worst
    return model, arch


def check_config(family, arch, config, tensors, model, reference, folder, words=VOCAB):
    """Over the original: identity. From nothing: reads back, and transformers loads the same function."""
    assert family.write(arch, config) == config
    fresh = family.write(arch, {})
    assert {key for key, value in fresh.items() if value is None} <= {"pad_token_id"}
    assert family.read(fresh, shapes_of(tensors)) == arch
    assert family.write(arch, fresh) == fresh
    assert fresh["architectures"] == [type(reference).__name__]
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fresh))
    again = type(reference).from_pretrained(folder, attn_implementation="eager").eval()
    assert difference(again, model, inputs_of(len(arch.inputs) == 1, words)[-1]) <= 1e-5


def check_unknown_key(family, config, tensors):
    with pytest.raises(InputError, match="surprise_feature"):
        family.read({**config, "surprise_feature": 3}, shapes_of(tensors))


def check_generation(model, reference, start, steps=12):
    """With a cache, without it, and by transformers: the same tokens; in parts, the same logits."""
    feed = inputs_of()[1]
    given = {name: feed[name] for name in ("input_ids", "attention_mask")}
    begun = torch.full((3, 1), start)
    kept = generate(model, begun, steps, given=given)
    again = generate(model, begun, steps, given=given, cache=False)
    expected = reference.generate(
        **given, max_new_tokens=steps, do_sample=False, num_beams=1, decoder_start_token_id=start,
        eos_token_id=None, forced_eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    assert torch.equal(kept, again) and torch.equal(kept, expected)
    assert len(set(kept[:, 1:].flatten().tolist())) > 3
    with torch.inference_mode():
        whole, state = model(**given, decoder_input_ids=kept)["logits"], {}
        parts = [model(**given, decoder_input_ids=part, state=state)["logits"] for part in kept.split([4, 3, 1, 5], 1)]
    assert (torch.cat(parts, 1) - whole).abs().max() <= 1e-5 * whole.abs().max().clamp_min(1.0)
