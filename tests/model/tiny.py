"""Tiny checkpoints for tests: one per family, randomly initialised and perturbed."""

import torch

from archtool.families.registry import family_named
from archtool.model.build import build
from archtool.model.checkpoint import Checkpoint, Source, of_module

CONFIGS = {
    "llama": dict(
        model_type="llama", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6,
        hidden_act="silu", tie_word_embeddings=False,
    ),
}  # fmt: skip


def tiny(name: str, seed: int = 0, integers: bool = False) -> Checkpoint:
    """A small checkpoint of a family; ``integers`` gives float64-exact small integer weights."""
    config = CONFIGS[name]
    arch = family_named(name).read(config, {})
    model = build(arch, seed=seed, std=0.3)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            if integers:
                p.copy_(torch.randint(-2, 3, p.shape, generator=generator))
            else:
                p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    return of_module(model, Source(config=config))


def inputs(checkpoint: Checkpoint, seed: int = 0, batch: int = 2, length: int = 9) -> dict[str, torch.Tensor]:
    """Random valid inputs."""
    generator = torch.Generator().manual_seed(seed)
    arch = checkpoint.architecture
    if "pixel_values" in arch.inputs:
        size = int(arch.fact["image_size"])
        return {"pixel_values": torch.randn(batch, arch.size["channels"], size, size, generator=generator)}
    return {"input_ids": torch.randint(0, arch.size["vocab"], (batch, length), generator=generator)}
