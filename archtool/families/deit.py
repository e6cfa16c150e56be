"""DeiT (Touvron et al. 2021) under Hugging Face's names: ViT with a distillation token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from archtool.families.vision_encoder import VisionEncoder


class Deit(VisionEncoder):
    """Reads and writes DeiT: body, one classifier, or the mean of a class and a distillation classifier."""

    name = "deit"
    model_types: tuple[str, ...] = ("deit",)
    stem = "DeiT"
    prefix = "deit."
    token_files: ClassVar[Mapping[str, str]] = {"cls": "cls_token", "dist": "distillation_token"}
    head_files: ClassVar[Mapping[str, str]] = {
        "pooler.dense": "{at}pooler.dense",
        "head.score": "classifier",
        "cls_head.score": "cls_classifier",
        "dist_head.score": "distillation_classifier",
    }
    variants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Model": ("pooler.dense",),
        "ForImageClassification": ("head.score",),
        "ForImageClassificationWithTeacher": ("cls_head.score", "dist_head.score"),
    }
