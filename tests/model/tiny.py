"""Tiny checkpoints for tests: one per family, randomly initialised and perturbed."""

import torch

from archtool.families.registry import family_named
from archtool.ir.feeds import feeds, sample_shape
from archtool.model.build import build
from archtool.model.checkpoint import Checkpoint, Source, of_module

CONFIGS = {
    "bert": dict(
        model_type="bert", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=32, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu",
    ),
    "roberta": dict(
        model_type="roberta", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=32, type_vocab_size=1, layer_norm_eps=1e-5, hidden_act="gelu",
        pad_token_id=1,
    ),
    "distilbert": dict(
        model_type="distilbert", vocab_size=61, dim=24, hidden_dim=40, n_layers=3, n_heads=4,
        max_position_embeddings=32, activation="gelu",
    ),
    "vit": dict(
        model_type="vit", hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
        image_size=8, patch_size=4, num_channels=3, hidden_act="gelu", layer_norm_eps=1e-12,
        architectures=["ViTForImageClassification"], id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "deit": dict(
        model_type="deit", hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
        image_size=8, patch_size=4, num_channels=3, hidden_act="gelu", layer_norm_eps=1e-12,
        architectures=["DeiTForImageClassificationWithTeacher"], id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "convnext": dict(
        model_type="convnext", hidden_sizes=[8, 12], depths=[2, 1], num_stages=2, image_size=16, patch_size=2,
        num_channels=3, hidden_act="gelu", architectures=["ConvNextForImageClassification"],
        id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "poolformer": dict(
        model_type="poolformer", hidden_sizes=[8, 12], depths=[2, 1], num_encoder_blocks=2, image_size=16,
        patch_sizes=[3, 3], strides=[2, 2], padding=[1, 1], mlp_ratio=2.0, num_channels=3,
        architectures=["PoolFormerForImageClassification"], id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "swin": dict(
        model_type="swin", image_size=24, patch_size=2, num_channels=3, embed_dim=12, depths=[2, 3], num_heads=[2, 3],
        window_size=4, mlp_ratio=2.0, hidden_act="gelu", use_absolute_embeddings=True,
        architectures=["SwinForImageClassification"], id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "timm_vit": dict(
        architecture="vit_tiny_patch16_224", num_classes=4, model_args={"num_heads": 4, "img_size": 8, "patch_size": 4},
    ),
    "segformer": dict(
        model_type="segformer", num_encoder_blocks=2, depths=[1, 2], sr_ratios=[2, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[2, 4], mlp_ratios=[3, 2], decoder_hidden_size=12,
        image_size=20, architectures=["SegformerForSemanticSegmentation"], id2label={"0": "a", "1": "b", "2": "c"},
    ),
    "pvt_v2": dict(
        model_type="pvt_v2", num_encoder_blocks=2, depths=[2, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[2, 4], mlp_ratios=[3, 2], linear_attention=True,
        image_size=32, architectures=["PvtV2ForImageClassification"], id2label={"0": "a", "1": "b", "2": "c"},
    ),
    "mobilevit": dict(
        model_type="mobilevit", image_size=48, num_channels=3, hidden_sizes=[8, 12, 16], num_attention_heads=2,
        neck_hidden_sizes=[8, 8, 12, 16, 16, 20, 24], expand_ratio=1.0, output_stride=16,
        architectures=["MobileViTForImageClassification"], id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "mobilevitv2": dict(
        model_type="mobilevitv2", image_size=64, num_channels=3, base_attn_unit_dims=[64, 80, 96],
        n_attn_blocks=[1, 2, 1], width_multiplier=0.125, architectures=["MobileViTV2ForImageClassification"],
        id2label={"0": "a", "1": "b", "2": "c", "3": "d"},
    ),
    "llama": dict(
        model_type="llama", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6,
        hidden_act="silu", tie_word_embeddings=False,
    ),
    "gemma2": dict(
        model_type="gemma2", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-6,
        sliding_window=4, query_pre_attn_scalar=8, attn_logit_softcapping=20.0, final_logit_softcapping=15.0,
    ),
    "phi3": dict(
        model_type="phi3", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3, pad_token_id=0,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6,
        partial_rotary_factor=0.5, original_max_position_embeddings=64,
    ),
    "starcoder2": dict(
        model_type="starcoder2", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, norm_epsilon=1e-5,
        hidden_act="gelu_pytorch_tanh", tie_word_embeddings=False, use_bias=True,
    ),
    "gpt2": dict(
        model_type="gpt2", vocab_size=61, n_embd=24, n_inner=40, n_layer=3, n_head=4, n_positions=64,
        activation_function="gelu_new",
    ),
    "mamba": dict(
        model_type="mamba", vocab_size=61, hidden_size=24, state_size=6, num_hidden_layers=3, expand=2,
        time_step_rank=4, layer_norm_epsilon=1e-5, tie_word_embeddings=False,
    ),
    "t5": dict(
        model_type="t5", vocab_size=61, d_model=24, d_kv=6, d_ff=40, num_layers=3, num_decoder_layers=3, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=12,
    ),
    "opennmt": dict(spec="TransformerBase", revision=2),
    "marian": dict(
        model_type="marian", vocab_size=61, decoder_vocab_size=53, d_model=24, encoder_layers=3, decoder_layers=2,
        encoder_ffn_dim=40, decoder_ffn_dim=40, encoder_attention_heads=4, decoder_attention_heads=4,
        max_position_embeddings=32, scale_embedding=True, share_encoder_decoder_embeddings=False, pad_token_id=0,
    ),
    "patchtst": dict(
        model_type="patchtst", num_input_channels=3, context_length=24, patch_length=8, patch_stride=4, d_model=24,
        ffn_dim=40, num_attention_heads=4, num_hidden_layers=3, prediction_length=5, pooling_type=None,
        use_cls_token=False, architectures=["PatchTSTForPrediction"],
    ),
}  # fmt: skip


def timm_shapes(width: int = 24, hidden: int = 40, blocks: int = 3, patch: int = 4) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of a small timm ViT, which is read from its tensors."""
    shapes = {
        "cls_token": (1, 1, width), "pos_embed": (1, 5, width), "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,), "norm.weight": (width,), "norm.bias": (width,), "head.weight": (4, width),
        "head.bias": (4,),
    }  # fmt: skip
    inner = {
        "norm1": (width,), "norm2": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width),
        "mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden),
    }  # fmt: skip
    for i in range(blocks):
        for name, dims in inner.items():
            shapes[f"blocks.{i}.{name}.weight"], shapes[f"blocks.{i}.{name}.bias"] = dims, dims[:1]
    return shapes


def opennmt_shapes(width: int = 24, hidden: int = 40, blocks: int = 2) -> dict[str, tuple[int, ...]]:
    """Tensor shapes from which a small OpenNMT model is read."""
    shapes = {f"{stack}/embeddings/weight": (words, width) for stack, words in (("encoder", 61), ("decoder", 53))}
    places = [f"{stack}/layer_{i}/ffn/linear_0/weight" for stack in ("encoder", "decoder") for i in range(blocks)]
    return shapes | dict.fromkeys(places, (hidden, width))


def tiny(name: str, seed: int = 0, integers: bool = False) -> Checkpoint:
    """A small checkpoint of a family; ``integers`` gives float64-exact small integer weights."""
    config = CONFIGS[name]
    shapes = {"timm_vit": timm_shapes, "opennmt": opennmt_shapes}
    arch = family_named(name).read(config, shapes[name]() if name in shapes else {})
    model = build(arch, seed=seed, std=0.3)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            if integers:
                p.copy_(torch.randint(-2, 3, p.shape, generator=generator))
            else:
                p.add_(torch.randn(p.shape, generator=generator) * 0.1)
        for name, b in model.named_buffers():
            if "running" in name:
                noise = (
                    torch.randint(0, 4, b.shape, generator=generator)
                    if integers
                    else 4 * torch.rand(b.shape, generator=generator)
                )
                b.add_(noise)
    return of_module(model, Source(config=config))


def inputs(checkpoint: Checkpoint, seed: int = 0, batch: int = 2, length: int = 9) -> dict[str, torch.Tensor]:
    """Random valid inputs."""
    generator = torch.Generator().manual_seed(seed)
    arch = checkpoint.architecture
    made = {}
    for name, feed in ((n, f) for n, f in feeds(arch).items() if n in arch.inputs):
        shape = (batch, *sample_shape(arch, feed, length))
        ids = feed.below and torch.randint(2, feed.below, shape, generator=generator)
        made[name] = ids if feed.below else torch.randn(shape, generator=generator)
    return made
