"""Models without a family: architectures made here, stored under their canonical tensor names.

Such a folder is read from its ``architecture.json``; the ``config.json`` beside it says nothing about the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Shapes
from archtool.families.names import Entry, entry
from archtool.ir.architecture import Architecture
from archtool.ir.table import stored


class Native:
    """Names every stored tensor as itself."""

    name = ""
    model_types: tuple[str, ...] = ()

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """There is nothing to read: the architecture comes from its own file."""
        raise InputError("a model without a family needs its architecture.json", "Copy the whole model folder.")

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration it came with."""
        return dict(base)

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """See `Family.names`."""
        return tuple(entry(storage, storage) for storage in stored(arch))

    def carried(self, name: str) -> bool:
        """Nothing is."""
        return False

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """See `Family.carried_axes`."""
        return ()
