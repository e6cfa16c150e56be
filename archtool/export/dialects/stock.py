"""Stock: uniform widths that the family's own transformers class accepts."""

from __future__ import annotations

from archtool.export.base import Form, family_config
from archtool.export.proof import prove
from archtool.model.checkpoint import Checkpoint


def form(checkpoint: Checkpoint) -> Form:
    """The model under the family's own configuration."""
    config = family_config(checkpoint)
    prove(checkpoint, config)
    return Form(checkpoint, config)
