"""RoBERTa and XLM-RoBERTa (Liu et al. 2019, Conneau et al. 2020): BERT with positions after the padding id.

Real tokens take positions ``pad_token_id + 1, + 2, ...``; padding keeps the position ``pad_token_id``. The
classifier has a dense layer of its own on the first token; the vocabulary head always uses GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archtool.families.bert import Bert
from archtool.families.config import Config
from archtool.ir.architecture import Architecture
from archtool.operators.token_stem import TokenStem


class Roberta(Bert):
    """Reads and writes RoBERTa and XLM-RoBERTa."""

    name = "roberta"
    model_types = ("roberta", "xlm-roberta")
    classes: ClassVar[Mapping[str, str]] = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta"}
    prefix = "roberta."
    defaults: ClassVar[Mapping[str, Any]] = {**Bert.defaults, "vocab_size": 50265, "pad_token_id": 1}
    head_files: ClassVar[Mapping[str, str]] = {
        "pooler.dense": "{at}pooler.dense",
        "pre.dense": "classifier.dense",
        "head.score": "classifier.out_proj",
        "transform.dense": "lm_head.dense",
    }
    transform_norm = "lm_head.layer_norm"
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Model": ("pooler.dense",),
        "ForSequenceClassification": ("pre.dense", "head.score"),
        "ForTokenClassification": ("head.score", "tokens"),
        "ForMaskedLM": ("transform.dense",),
    }
    transform_act = "gelu"
    lm_weights = ("lm_head.decoder.weight",)
    lm_biases = ("lm_head.bias", "lm_head.decoder.bias")

    def _pad(self, c: Config) -> int:
        return int(c.take("pad_token_id", self.defaults["pad_token_id"]))

    def _first_position(self, c: Config) -> int:
        return self._pad(c) + 1

    def _stem(self, c: Config) -> TokenStem:
        return TokenStem(positions="positions", types="embed.tokens.types", pad_offset=self._pad(c))

    def _own_keys(self, arch: Architecture) -> dict[str, Any]:
        stem = arch.block("embed").layers[0].op
        assert isinstance(stem, TokenStem)
        return {**super()._own_keys(arch), "pad_token_id": stem.pad_offset}
