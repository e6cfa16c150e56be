"""Sibling: another transformers class that computes the same from the same tensors.

Llama's class wants the head count to divide the width; Mistral's takes any, with the same tensor names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.export.base import DialectRefused, Form, family_config
from archtool.export.proof import prove
from archtool.model.checkpoint import Checkpoint

SIBLINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"llama": ("mistral", {"sliding_window": None})}
INERT: Mapping[str, tuple[Any, ...]] = {
    "attention_bias": (False, None), "mlp_bias": (False, None), "pretraining_tp": (1, None),
}  # fmt: skip


def form(checkpoint: Checkpoint) -> Form:
    """The model under a sibling's configuration."""
    config = family_config(checkpoint)
    kind = str(config.get("model_type"))
    if kind not in SIBLINGS:
        raise DialectRefused(f"{checkpoint.architecture.family} has no sibling class with its tensor names")
    sibling, settings = SIBLINGS[kind]
    kept = {k: v for k, v in config.items() if k not in INERT or v not in INERT[k]}
    named = [name.replace(kind.capitalize(), sibling.capitalize()) for name in config.get("architectures") or []]
    made = {**kept, **settings, "model_type": sibling, **({"architectures": named} if named else {})}
    prove(checkpoint, made)
    return Form(
        checkpoint,
        made,
        notes=(f"written as {sibling}, whose class takes these sizes and computes the same",),
    )
