"""Generation with every decoder family: cached, uncached and by transformers, token by token the same."""

import pytest
import torch

from archtool.families.gemma2 import Gemma2
from archtool.families.gpt2 import Gpt2
from archtool.families.llama import Llama
from archtool.families.phi3 import Phi3
from archtool.model.generate import generate
from tests.families import test_gemma2, test_gpt2, test_llama, test_phi3
from tests.families.decoder_checks import VOCAB, check_generation, inputs_of, made
from tests.families.parity import ours

LLAMA = test_llama.TINY
YARN = {"rope_parameters": {"rope_theta": 300.0, **test_llama.SCALED["yarn"]}, "head_dim": 16}
QWEN = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
CASES = {
    "llama": (Llama, "LlamaForCausalLM", LLAMA),
    "llama-yarn": (Llama, "LlamaForCausalLM", LLAMA | YARN),
    "mistral": (Llama, "MistralForCausalLM", LLAMA | {"sliding_window": 4}),
    "qwen2": (Llama, "Qwen2ForCausalLM", LLAMA | QWEN),
    "qwen3": (Llama, "Qwen3ForCausalLM", LLAMA | {"head_dim": 10}),
    "gemma2": (Gemma2, "Gemma2ForCausalLM", test_gemma2.TINY),
    "phi3": (Phi3, "Phi3ForCausalLM", test_phi3.TINY | {"sliding_window": 5, "partial_rotary_factor": 0.7}),
    "gpt2": (Gpt2, "GPT2LMHeadModel", test_gpt2.TINY | {"scale_attn_by_inverse_layer_idx": True}),
}


def _model(name, folder):
    family, class_name, settings = CASES[name]
    reference, tensors, config = made(class_name, settings, folder)
    return ours(family(), config, tensors)[0], reference


@pytest.mark.parametrize("name", CASES)
def test_cached_uncached_and_transformers_agree(name, tmp_path):
    check_generation(*_model(name, tmp_path))


def test_sampling_depends_on_the_generator_only(tmp_path):
    model, _ = _model("llama", tmp_path)
    ids = inputs_of(tokens=4)[0]["input_ids"]

    def sample(seed, cache):
        made = torch.Generator().manual_seed(seed)
        return generate(model, ids, 9, temperature=2.0, generator=made, cache=cache)

    assert torch.equal(sample(3, True), sample(3, False))
    assert not torch.equal(sample(3, True), sample(4, True))
    assert int(sample(3, True).max()) < VOCAB and sample(3, True).shape == (3, 13)


def test_generation_stops_when_every_row_has_stopped(tmp_path):
    model, reference = _model("gpt2", tmp_path)
    ids = inputs_of(tokens=4)[0]["input_ids"]
    whole = generate(model, ids, 8)
    stop = int(whole[0, 6])
    ended = generate(model, ids, 8, stop=stop)
    expected = reference.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=stop,
    )
    assert torch.equal(ended, expected)
    assert generate(model, ids[:1], 8, stop=stop).shape[1] <= 7
    prompt = torch.full((1, 3), stop)
    assert generate(model, prompt, 8, stop=stop).shape[1] > 3
