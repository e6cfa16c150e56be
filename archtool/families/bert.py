"""BERT (Devlin et al. 2019): post-norm encoder with segments and a pooler. Names are Hugging Face's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.families.text_encoder import TextEncoder


class Bert(TextEncoder):
    """Reads and writes BERT: body, classifiers, masked language model, next-sentence head."""

    name = "bert"
    model_types: tuple[str, ...] = ("bert",)
    classes: ClassVar[Mapping[str, str]] = {"bert": "Bert"}
    prefix = "bert."
    keys: ClassVar[Mapping[str, str]] = {
        "width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads",
        "hidden": "intermediate_size", "act": "hidden_act",
    }  # fmt: skip
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "tie_word_embeddings": True, "position_embedding_type": "absolute",
    }  # fmt: skip
    layers = "encoder.layer"
    block_linears: ClassVar[Mapping[str, str]] = {
        "attn.q": "attention.self.query", "attn.k": "attention.self.key", "attn.v": "attention.self.value",
        "attn.o": "attention.output.dense", "ffn.fc1": "intermediate.dense", "ffn.fc2": "output.dense",
    }  # fmt: skip
    block_norms: ClassVar[Mapping[str, str]] = {
        "attn.post": "attention.output.LayerNorm",
        "ffn.post": "output.LayerNorm",
    }
    head_files: ClassVar[Mapping[str, str]] = {
        "pooler.dense": "{at}pooler.dense",
        "head.score": "classifier",
        "nsp.score": "cls.seq_relationship",
        "transform.dense": "cls.predictions.transform.dense",
    }
    transform_norm = "cls.predictions.transform.LayerNorm"
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Model": ("pooler.dense",),
        "ForSequenceClassification": ("pooler.dense", "head.score"),
        "ForTokenClassification": ("head.score", "tokens"),
        "ForMaskedLM": ("transform.dense",),
        "ForPreTraining": ("pooler.dense", "nsp.score", "transform.dense"),
    }
    lm_weights = ("cls.predictions.decoder.weight",)
    lm_biases = ("cls.predictions.bias", "cls.predictions.decoder.bias")
    ignored = (
        "attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "output_past",
        "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
        "pooler_size_per_head", "pooler_type",
    )  # fmt: skip
