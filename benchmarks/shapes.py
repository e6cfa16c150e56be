"""Well-known model shapes, built by transformers with random weights and read by archtool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archtool.model.checkpoint import Checkpoint
from archtool.model.load import load

if TYPE_CHECKING:
    from torch import nn


def minilm(folder: Path, quick: bool = False) -> tuple[Checkpoint, nn.Module]:
    """all-MiniLM-L6's shape (6 × 384, 12 heads, FFN 1536; ``quick``: 2 × 96): archtool's and transformers' model."""
    import torch
    from transformers import BertConfig, BertModel

    small = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 384}
    full = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    torch.manual_seed(0)
    return _written(BertModel(BertConfig(**(small if quick else full))), folder)


def vit(folder: Path, quick: bool = False) -> tuple[Checkpoint, nn.Module]:
    """ViT-S/16 (12 × 384, 6 heads, FFN 1536; ``quick``: 2 × 96 on 64 pixels) with 1000 classes."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    small = {
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "image_size": 64,
    }
    full = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    torch.manual_seed(0)
    config = ViTConfig(**(small if quick else full), num_labels=1000)
    return _written(ViTForImageClassification(config), folder)


def _written(model: nn.Module, folder: Path) -> tuple[Checkpoint, nn.Module]:
    model.eval().save_pretrained(folder)
    return load(folder), model
