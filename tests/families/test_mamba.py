"""Mamba against transformers: parity, padding, states, generation, configurations there and back, refusals."""

import pytest

from archtool.families.mamba import Mamba
from tests.families.decoder_checks import (
    VOCAB,
    check_config,
    check_generation,
    check_parity,
    check_unknown_key,
    made,
)
from tests.families.parity import ours

TINY = {
    "vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 3, "state_size": 5, "bos_token_id": 1,
    "eos_token_id": 2, "time_step_rank": 3,
}  # fmt: skip
CASES = [
    ("MambaForCausalLM", {}),
    ("MambaForCausalLM", {"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": False, "expand": 3}),
    ("MambaForCausalLM", {"time_step_rank": "auto", "conv_kernel": 2, "residual_in_fp32": False, "hidden_act": "gelu",
                          "layer_norm_epsilon": 1e-3, "use_mambapy": True, "rescale_prenorm_residual": True}),
    ("MambaModel", {"state_size": 16, "expand": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_outputs_and_configuration(name, extra, tmp_path):
    reference, tensors, config = made(name, TINY | extra, tmp_path / "a")
    model, arch, _ = check_parity(Mamba(), reference, config, tensors, pad=5)
    check_config(Mamba(), arch, config, tensors, model, reference, tmp_path / "b")
    check_unknown_key(Mamba(), config, tensors)


@pytest.mark.parametrize("extra", [{}, CASES[1][1]])
def test_cached_uncached_and_transformers_agree(extra, tmp_path):
    reference, tensors, config = made("MambaForCausalLM", TINY | extra, tmp_path)
    check_generation(ours(Mamba(), config, tensors)[0], reference)
