import pytest
import torch
from train_models import same_bits, settings, text_data, tiny_llama

from archtool.config.preset import build_model
from archtool.errors import InputError, UsageError
from archtool.ir.table import stored
from archtool.train.optimizer import hidden_matrices, optimizers, set_rates
from archtool.train.run import train


def outside(arch):
    inside = hidden_matrices(arch)
    return [name for name, spec in stored(arch).items() if len(spec.dims) >= 2 and name not in inside]


def test_stems_embeddings_and_heads_are_no_inner_matrices():
    assert outside(build_model("vit-digits", 0).architecture) == [
        "embed.patches.patches.weight", "embed.patches.position", "head.score.proj.weight",
    ]  # fmt: skip
    arch = tiny_llama().architecture
    assert outside(arch) == ["embed.tokens.token.weight", "head.lm.proj.weight"]
    assert {name.split(".")[1] for name in hidden_matrices(arch)} == {"attn", "ffn"}


def test_a_merging_layer_without_a_residual_is_inside():
    from archtool.operators.down_conv import DownConv
    from archtool.operators.patch_merging import PatchMerging

    merged = next(arch for arch in PatchMerging.samples())
    assert any(name.endswith("reduce.weight") for name in hidden_matrices(merged))
    convolved = next(arch for arch in DownConv.samples())
    assert not any(name.endswith("conv.weight") for name in hidden_matrices(convolved))


def test_a_head_tied_to_the_word_table_is_outside():
    config = {"vocab_size": 30, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}
    arch = build_model({"family": "gpt2", "config": config}, 0).architecture
    assert outside(arch) == ["embed.tokens.token.weight", "embed.tokens.position.weight"]


@pytest.mark.parametrize(("name", "parts"), [("adamw", {"adamw"}), ("sgd", {"sgd"}), ("muon", {"muon", "adamw"})])
def test_every_parameter_has_one_optimizer_and_one_rate(name, parts):
    module = tiny_llama().module()
    made = optimizers({"model": module}, settings(optimizer=name, weight_decay=0.3))
    held = [p for optimizer in made.values() for group in optimizer.param_groups for p in group["params"]]
    assert set(made) == parts and sorted(map(id, held)) == sorted(map(id, module.parameters()))
    groups = [group for optimizer in made.values() for group in optimizer.param_groups]
    assert all(group["weight_decay"] == (0.3 if group["params"][0].dim() > 1 else 0.0) for group in groups)
    set_rates(made, 0.125)
    assert {group["lr"] for group in groups} == {0.125}


def test_muon_moves_a_matrix_orthogonally_by_the_size_of_an_adam_step():
    module = tiny_llama().module()
    made = optimizers({"model": module}, settings(optimizer="muon", lr=0.1, weight_decay=0.0))
    weight = module.get_parameter("b0.ffn.gate.weight")
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    made["muon"].step()
    moved = before - weight.detach()
    singular = torch.linalg.svdvals(moved)
    assert float(singular.max() / singular.min()) < 2.0
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * 0.1, rel=0.2)


@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_they_learn_and_repeat_to_the_bit(tmp_path, name):
    data, how = text_data(tmp_path), settings(optimizer=name, steps=30, batch_size=16, lr=3e-2)
    first, record = train(tiny_llama(), data, how)
    again, _ = train(tiny_llama(), data, how)
    assert same_bits(first, again) and record.loss < 0.8 * record.curve[0][1]


def test_what_muon_cannot_serve_is_an_error():
    with pytest.raises(InputError, match="Muon needs an architecture"):
        optimizers({"model": torch.nn.Linear(2, 2)}, settings(optimizer="muon"))
    with pytest.raises(UsageError, match="no optimizer 'lion'"):
        settings(optimizer="lion")
