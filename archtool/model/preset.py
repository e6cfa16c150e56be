"""From a family and a configuration to an architecture and a freshly initialised checkpoint."""

from collections.abc import Mapping
from typing import Any

from archtool.families.registry import family_named
from archtool.ir.architecture import Architecture
from archtool.model.checkpoint import Checkpoint


def architecture_of(family: str, config: Mapping[str, Any]) -> tuple[Architecture, dict[str, Any]]:
    """The architecture of a configuration without weights, and the complete ``config.json``.

    ``model_type`` may be left out where the family has one; ``num_labels`` becomes the ``id2label`` that Hugging
    Face's classes write.

    Raises:
        InputError: unknown family, or a configuration that it does not read.
    """
    reader = family_named(family)
    stated = {"model_type": reader.model_types[0], **config}
    labels = stated.pop("num_labels", None)
    if labels is not None and "id2label" not in stated:
        stated["id2label"] = {str(i): f"LABEL_{i}" for i in range(int(labels))}
        stated["label2id"] = {f"LABEL_{i}": i for i in range(int(labels))}
    architecture = reader.read(stated, {})
    return architecture, reader.write(architecture, stated)


def built(family: str, config: Mapping[str, Any], seed: int) -> Checkpoint:
    """A checkpoint of that architecture with random weights (``initializer_range`` is their spread)."""
    from archtool.model.build import build
    from archtool.model.checkpoint import Source, of_module

    architecture, complete = architecture_of(family, config)
    module = build(architecture, seed, std=float(complete.get("initializer_range", 0.02)))
    return of_module(module, Source(config=complete))
