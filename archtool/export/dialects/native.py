"""Native: whatever the architecture is, with ``architecture.json``; `archtool.load` reads it."""

from __future__ import annotations

from archtool.export.base import Form, base_config, family_config
from archtool.model.checkpoint import Checkpoint


def form(checkpoint: Checkpoint) -> Form:
    """The model with its architecture as data; sizes that differ keep the original's number in config.json."""
    base = base_config(checkpoint)
    config = {k: base.get(k) if v is None else v for k, v in family_config(checkpoint).items()}
    return Form(checkpoint, config, native=True)
