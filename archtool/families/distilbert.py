"""DistilBERT (Sanh et al. 2019): BERT's body without segments and pooler, half the blocks.

Positions are a stored table, learned or sinusoidal. The classifier has a ReLU layer on the first token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.families.base import Draft, Shapes
from archtool.families.config import Config
from archtool.families.text_encoder import TextEncoder
from archtool.ir.architecture import Architecture
from archtool.operators.token_stem import TokenStem

EPS = 1e-12


class DistilBert(TextEncoder):
    """Reads and writes DistilBERT."""

    name = "distilbert"
    model_types = ("distilbert",)
    classes: ClassVar[Mapping[str, str]] = {"distilbert": "DistilBert"}
    prefix = "distilbert."
    keys: ClassVar[Mapping[str, str]] = {
        "width": "dim", "depth": "n_layers", "heads": "n_heads", "hidden": "hidden_dim", "act": "activation",
    }  # fmt: skip
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 30522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072,
        "activation": "gelu", "max_position_embeddings": 512, "sinusoidal_pos_embds": False,
        "tie_word_embeddings": True,
    }  # fmt: skip
    layers = "transformer.layer"
    block_linears: ClassVar[Mapping[str, str]] = {
        "attn.q": "attention.q_lin", "attn.k": "attention.k_lin", "attn.v": "attention.v_lin",
        "attn.o": "attention.out_lin", "ffn.fc1": "ffn.lin1", "ffn.fc2": "ffn.lin2",
    }  # fmt: skip
    block_norms: ClassVar[Mapping[str, str]] = {"attn.post": "sa_layer_norm", "ffn.post": "output_layer_norm"}
    head_files: ClassVar[Mapping[str, str]] = {
        "pre.dense": "pre_classifier",
        "head.score": "classifier",
        "transform.dense": "vocab_transform",
    }
    transform_norm = "vocab_layer_norm"
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Model": (),
        "ForSequenceClassification": ("pre.dense", "head.score"),
        "ForTokenClassification": ("head.score", "tokens"),
        "ForMaskedLM": ("transform.dense",),
    }
    pre_act = "relu"
    lm_weights = ("vocab_projector.weight",)
    lm_biases = ("vocab_projector.bias",)
    ignored = (
        "dropout",
        "attention_dropout",
        "qa_dropout",
        "seq_classif_dropout",
        "output_past",
        "tie_weights_",
    )

    def _eps(self, c: Config) -> float:
        return EPS

    def _stem(self, c: Config) -> TokenStem:
        return TokenStem(positions="positions")

    def _facts(self, c: Config, draft: Draft, shapes: Shapes, parts: tuple[str, ...]) -> None:
        super()._facts(c, draft, shapes, parts)
        draft.facts["sinusoidal"] = bool(c.take("sinusoidal_pos_embds", False))

    def _own_keys(self, arch: Architecture) -> dict[str, Any]:
        return {"sinusoidal_pos_embds": arch.fact["sinusoidal"]}
