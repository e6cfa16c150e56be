"""What a dialect is: a way to say a model so that other programs load it, or a reason why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archtool.errors import InputError
from archtool.families.registry import family_named
from archtool.model.checkpoint import Checkpoint


class DialectRefused(InputError):
    """The dialect cannot say this model exactly; the message is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "Use --dialect auto, which takes the first exact one.")


@dataclass(frozen=True)
class Form:
    """What a dialect writes.

    Attributes:
        checkpoint: the model as it is written (padded: with zeros).
        config: contents of ``config.json``.
        native: whether ``architecture.json`` is needed to read it back.
        code: (file name, text) of Python files that travel along.
        notes: what the user should know, for the report.
    """

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    native: bool = False
    code: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def base_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The configuration that the model came with, before any remote wrapping."""
    config = checkpoint.source.config
    section = config.get("archtool")
    return section["config"] if isinstance(section, Mapping) and "config" in section else config


def family_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The family's configuration; None where sizes differ between blocks."""
    arch = checkpoint.architecture
    return family_named(arch.family).write(arch, base_config(checkpoint))
