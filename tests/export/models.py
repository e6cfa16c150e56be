"""Tiny perturbed transformers models of every family, saved to folders."""

import torch
import transformers as tf

from archtool.ir.axes import Selection
from archtool.ir.edit import Edit, Select
from archtool.model.apply import apply
from tests.families.parity import lively, perturbed

torch.set_num_threads(1)
TEXT = dict(vocab_size=61, hidden_size=48, num_hidden_layers=3, intermediate_size=64)
IMAGE = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    image_size=16,
    patch_size=8,
)
PYRAMID = dict(
    num_encoder_blocks=2, depths=[1, 2], sr_ratios=[2, 1], hidden_sizes=[24, 48], patch_sizes=[7, 3], strides=[4, 2],
    num_attention_heads=[4, 8], mlp_ratios=[2, 2], image_size=24,
)  # fmt: skip
STAGES = dict(
    image_size=18, patch_size=2, embed_dim=16, depths=[2, 3], num_heads=[2, 4], window_size=4, mlp_ratio=2.0,
    use_absolute_embeddings=True,
)  # fmt: skip
MOBILE = dict(
    image_size=48, hidden_sizes=[8, 12, 16], neck_hidden_sizes=[8, 8, 12, 16, 16, 20, 24], num_attention_heads=2,
    expand_ratio=2.0,
)  # fmt: skip
MOBILE2 = dict(image_size=72, base_attn_unit_dims=[64, 80, 96], n_attn_blocks=[1, 2, 1], width_multiplier=0.125)
ENCODER = dict(**TEXT, num_attention_heads=4, max_position_embeddings=64)
DECODER = dict(**TEXT, num_attention_heads=6, num_key_value_heads=3, head_dim=8, max_position_embeddings=64)
SERIES = dict(
    num_input_channels=3, context_length=24, patch_length=8, patch_stride=4, d_model=32, ffn_dim=40,
    num_attention_heads=4, num_hidden_layers=2, prediction_length=5, num_targets=4,
)  # fmt: skip
DISTIL = dict(vocab_size=61, dim=32, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=40)
T5 = dict(
    vocab_size=61, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
    relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=0,
)  # fmt: skip
MARIAN = dict(
    vocab_size=61, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=40, decoder_ffn_dim=40,
    encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=48, pad_token_id=1,
    decoder_start_token_id=1, eos_token_id=2, forced_eos_token_id=None, init_std=0.5,
)  # fmt: skip
METAFORMER = dict(hidden_sizes=[16, 24], depths=[2, 1], image_size=32)

MODELS = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**ENCODER)),
    "bert-class": lambda: tf.BertForSequenceClassification(tf.BertConfig(**ENCODER, num_labels=3)),
    "bert-masked": lambda: tf.BertForMaskedLM(tf.BertConfig(**ENCODER)),
    "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**ENCODER, pad_token_id=1)),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(tf.DistilBertConfig(**DISTIL)),
    "vit": lambda: tf.ViTForImageClassification(tf.ViTConfig(**IMAGE, num_labels=5)),
    "swin": lambda: tf.SwinForImageClassification(tf.SwinConfig(**STAGES, num_labels=5)),
    "mobilevit": lambda: tf.MobileViTForImageClassification(tf.MobileViTConfig(**MOBILE, num_labels=5)),
    "mobilevit-body": lambda: tf.MobileViTModel(tf.MobileViTConfig(**MOBILE)),
    "mobilevitv2": lambda: tf.MobileViTV2ForImageClassification(tf.MobileViTV2Config(**MOBILE2, num_labels=5)),
    "deit": lambda: tf.DeiTForImageClassificationWithTeacher(tf.DeiTConfig(**IMAGE, num_labels=5)),
    "convnext": lambda: tf.ConvNextForImageClassification(tf.ConvNextConfig(**METAFORMER, num_stages=2, num_labels=5)),
    "convnextv2-body": lambda: tf.ConvNextV2Model(tf.ConvNextV2Config(**METAFORMER, num_stages=2)),
    "poolformer": lambda: tf.PoolFormerForImageClassification(
        tf.PoolFormerConfig(**METAFORMER, num_encoder_blocks=2, num_labels=5)
    ),
    "segformer-map": lambda: tf.SegformerForSemanticSegmentation(
        tf.SegformerConfig(**PYRAMID, decoder_hidden_size=16, num_labels=5)
    ),
    "pvt_v2": lambda: tf.PvtV2ForImageClassification(tf.PvtV2Config(**PYRAMID, linear_attention=True, num_labels=5)),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**DECODER)),
    "llama-class": lambda: tf.LlamaForSequenceClassification(tf.LlamaConfig(**DECODER, num_labels=3, pad_token_id=0)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**DECODER, sliding_window=5)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(
        tf.Qwen2Config(**{k: v for k, v in DECODER.items() if k != "head_dim"}, tie_word_embeddings=True)
    ),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**DECODER, sliding_window=5)),
    "phi3": lambda: tf.Phi3ForCausalLM(
        tf.Phi3Config(**{k: v for k, v in DECODER.items() if k != "head_dim"}, pad_token_id=0)
    ),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=61, n_embd=48, n_layer=3, n_head=4, n_positions=64)),
    "patchtst": lambda: tf.PatchTSTForPrediction(tf.PatchTSTConfig(**SERIES, pooling_type=None)),
    "patchtst-class": lambda: tf.PatchTSTForClassification(tf.PatchTSTConfig(**SERIES, use_cls_token=True)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**DECODER)),
    "mamba": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=3, state_size=6)
    ),
    "t5": lambda: tf.T5ForConditionalGeneration(tf.T5Config(**T5)),
    "marian": lambda: tf.MarianMTModel(tf.MarianConfig(**MARIAN)),
}


def made(name, folder, seed=0, **kwargs):
    """A model's folder as transformers writes it."""
    torch.manual_seed(seed)
    moved = lively if name.startswith("mobilevit") else perturbed
    moved(MODELS[name](), seed).save_pretrained(folder, **kwargs)
    return folder


def keep(axis, kept, per=None):
    return Select(Selection(axis, tuple(kept), per))


def edited(checkpoint, *decisions):
    return apply(checkpoint, Edit("test", decisions))


def timm_folder(case, folder):
    """A timm checkpoint of the family tests: a configuration without a model type, and random tensors."""
    import json

    from safetensors.torch import save_file

    from tests.families import test_timm_vit as timm

    config, tokens, positions, channels, classes, options, how = timm.CASES[case]
    folder.mkdir()
    names = timm._names(tokens, positions, channels, how["heads"], classes, options)
    save_file(timm._tensors(names), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder
