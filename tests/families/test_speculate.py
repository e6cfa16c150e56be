"""Speculative decoding with every decoder family: the text of the target alone, whatever the draft takes back."""

import copy
import itertools

import pytest
import torch

from archtool.errors import UsageError
from archtool.families.gemma2 import Gemma2
from archtool.families.gpt2 import Gpt2
from archtool.families.llama import Llama
from archtool.families.mamba import Mamba
from archtool.families.phi3 import Phi3
from archtool.families.starcoder2 import Starcoder2
from archtool.families.t5 import T5
from archtool.model.context import Fixed, Grown, shorten
from archtool.model.generate import generate
from archtool.model.preset import built
from archtool.model.speculate import judge, overlap, residual, speculate
from tests.families import seq2seq_checks, test_gemma2, test_gpt2, test_llama, test_mamba, test_phi3, test_t5
from tests.families.decoder_checks import inputs_of, made
from tests.families.parity import ours
from tests.families.test_starcoder2 import TINY as STARCODER2

torch.set_num_threads(1)
LLAMA = test_llama.TINY
LONGROPE = test_phi3._longrope(original_max_position_embeddings=12)
CASES = {
    "llama": (Llama, "LlamaForCausalLM", LLAMA),
    "mistral": (Llama, "MistralForCausalLM", LLAMA | {"sliding_window": 4}),
    "gemma2": (Gemma2, "Gemma2ForCausalLM", test_gemma2.TINY),
    "phi3": (Phi3, "Phi3ForCausalLM", test_phi3.TINY | {"sliding_window": 5}),
    "phi3-longrope": (Phi3, "Phi3ForCausalLM", LONGROPE),
    "starcoder2": (Starcoder2, "Starcoder2ForCausalLM", STARCODER2),
    "gpt2": (Gpt2, "GPT2LMHeadModel", test_gpt2.TINY),
    "mamba": (Mamba, "MambaForCausalLM", test_mamba.TINY),
}


def target(name, folder):
    family, class_name, settings = CASES[name]
    _, tensors, config = made(class_name, settings, folder)
    return ours(family(), config, tensors)[0]


def near(model, noise):
    """A copy with noise on its weights: some of its tokens are the model's."""
    torch.manual_seed(3)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(noise * weight.float().std(correction=0).to(weight.dtype) * torch.randn_like(weight))
    return other


@pytest.mark.parametrize("name", CASES)
def test_greedy_text_is_that_of_the_target(name, tmp_path):
    model = target(name, tmp_path)
    drafted = taken = 0
    for noise, row in itertools.product((0.05, 0.4), (0, 1)):
        draft, ids = near(model, noise), inputs_of(tokens=6)[0]["input_ids"][row : row + 1]
        done = speculate(model, draft, ids, 18, draft_tokens=3)
        assert torch.equal(done.ids_BT, generate(model, ids, 18)) and done.new == 18
        drafted, taken = drafted + done.drafted, taken + done.taken
    assert 0 < taken < drafted


def test_a_recurrent_draft_for_attention_and_the_reverse(tmp_path):
    attends, steps = target("llama", tmp_path / "a"), target("mamba", tmp_path / "b")
    ids = inputs_of(tokens=5)[0]["input_ids"][:1]
    for model, draft in ((attends, steps), (steps, attends)):
        assert torch.equal(speculate(model, draft, ids, 12).ids_BT, generate(model, ids, 12))


def test_an_encoder_decoder_keeps_its_encoder(tmp_path):
    settings = test_t5.TINY | {"tie_word_embeddings": False}
    _, tensors, config = seq2seq_checks.made("T5ForConditionalGeneration", settings, tmp_path, test_t5.untied)
    model, _ = ours(T5(), config, tensors)
    given = {"input_ids": seq2seq_checks.inputs_of()[0]["input_ids"][:1]}
    begun = torch.zeros(1, 1, dtype=torch.int64)
    done = speculate(model, near(model, 0.2), begun, 12, given=given)
    assert torch.equal(done.ids_BT, generate(model, begun, 12, given=given))


def test_the_model_as_its_own_draft_is_always_right(tmp_path):
    model, ids = target("gpt2", tmp_path), inputs_of(tokens=4)[0]["input_ids"][:1]
    done = speculate(model, model, ids, 20, draft_tokens=4)
    assert (done.calls, done.new, done.taken, done.drafted) == (4, 20, 16, 16)
    whole = generate(model, ids, 28)  # all positions: drafting must not run over the table's end
    assert torch.equal(speculate(model, near(model, 0.3), ids, 28, draft_tokens=7).ids_BT, whole)


def test_a_stop_ends_the_text(tmp_path):
    model, ids = target("llama", tmp_path), inputs_of(tokens=4)[0]["input_ids"][:1]
    stop = int(generate(model, ids, 8)[0, 9])
    done = speculate(model, model, ids, 20, stop=stop)
    assert torch.equal(done.ids_BT, generate(model, ids, 20, stop=stop)) and done.new < 20


def test_what_is_refused(tmp_path):
    model, ids = target("gpt2", tmp_path), inputs_of(tokens=4)[0]["input_ids"]
    with pytest.raises(UsageError, match="3 texts"):
        speculate(model, model, ids, 4)
    with pytest.raises(UsageError, match="0 drafted"):
        speculate(model, model, ids[:1], 4, draft_tokens=0)


def test_the_mathematics_by_enumeration():
    """What leaves `judge` has the target's distribution: taken with min(1, p/q), else drawn from the residual."""
    p, q = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.1, 0.6, 0.1, 0.2])
    taken = q * torch.clamp(p / q, max=1.0)
    assert torch.allclose(taken + (1 - taken.sum()) * residual(p, q), p)
    assert overlap(p, q) == pytest.approx(0.5) and overlap(p, q) == pytest.approx(1 - 0.5 * float((p - q).abs().sum()))
    assert torch.equal(residual(p, p), p)


def test_judged_tokens_have_the_targets_distribution():
    """Both tokens of a round with one drafted, against the product of the target's two distributions."""
    first, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.7, 0.1])
    after = torch.tensor([0.1, 0.1, 0.8])
    generator, draws, counts = torch.Generator().manual_seed(0), 6000, torch.zeros(3)
    for _ in range(draws):
        token = torch.multinomial(q, 1, generator=generator)
        right, following = judge(token, torch.stack((first, after)), q[None], generator)
        counts[int(token if right else following)] += 1
    assert float(((counts - draws * first) ** 2 / (draws * first)).sum()) < 13.8  # chi², 2 degrees, p = 0.001


def test_sampled_text_has_the_targets_distribution():
    """Two tokens from a vocabulary of three: all nine texts, counted, against their probabilities."""
    config = {
        "architectures": ["GPT2LMHeadModel"], "vocab_size": 3, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2,
        "initializer_range": 0.8,
    }  # fmt: skip
    model, draft = (built("gpt2", config, seed).module() for seed in (0, 1))
    prompt, draws = torch.tensor([[0, 2]]), 1200
    with torch.inference_mode():
        first = torch.softmax(model(input_ids=prompt)["logits"][0, -1], -1)
        texts = torch.tensor([[0, 2, token] for token in range(3)])
        expected = first[:, None] * torch.softmax(model(input_ids=texts)["logits"][:, -1], -1)
        other = torch.softmax(draft(input_ids=prompt)["logits"][0, -1], -1)
    assert float(overlap(first, other)) < 0.9  # the draft alone would be seen
    counts, generator = torch.zeros(3, 3), torch.Generator().manual_seed(0)
    for _ in range(draws):
        done = speculate(model, draft, prompt, 2, draft_tokens=2, temperature=1.0, generator=generator)
        counts[tuple(done.ids_BT[0, 2:].tolist())] += 1
    assert float(((counts - draws * expected) ** 2 / (draws * expected)).sum()) < 26.1  # chi², 8 degrees, p = 0.001


def test_a_state_is_shortened_or_left():
    keys = torch.arange(10.0).reshape(1, 1, 5, 2)
    state = {"length": 5, "a": Grown(keys, keys), "b": Fixed(keys), "kept": {}}
    assert shorten(state, 3) and state["length"] == 3
    assert state["a"].k.shape[2] == state["a"].v.shape[2] == 3 and state["b"].value.shape[2] == 5
    mixed = {"length": 5, "a": Grown(keys, keys), "c": (keys,)}
    assert not shorten(mixed, 3) and mixed["length"] == 5 and mixed["a"].k.shape[2] == 5
    assert shorten(mixed, 5)
