"""ViT (Dosovitskiy et al. 2021) under Hugging Face's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from archtool.families.vision_encoder import VisionEncoder


class Vit(VisionEncoder):
    """Reads and writes ViT: body with or without pooler, image classifier on the class token."""

    name = "vit"
    model_types: tuple[str, ...] = ("vit",)
    stem = "ViT"
    prefix = "vit."
    token_files: ClassVar[Mapping[str, str]] = {"cls": "cls_token"}
    head_files: ClassVar[Mapping[str, str]] = {"pooler.dense": "{at}pooler.dense", "head.score": "classifier"}
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Model": ("pooler.dense",),
        "ForImageClassification": ("head.score",),
    }
