"""From a family or a builder of the zoo, with settings, to an architecture and a freshly initialised checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError
from archtool.families.registry import family_named
from archtool.ir.architecture import Architecture
from archtool.ir.validate import validate
from archtool.model.checkpoint import Checkpoint, Source
from archtool.registry import entries, suggestion

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.model.build import Model

INITIAL = ("initializer_range", "layer_scale_init_value")
"""Settings of every builder that say how weights begin; the architecture has nothing of them."""


def architecture_of(family: str, config: Mapping[str, Any]) -> tuple[Architecture, dict[str, Any]]:
    """The architecture of a configuration without weights, and the complete ``config.json``.

    ``model_type`` may be left out where the family has one; ``num_labels`` becomes the ``id2label`` that Hugging
    Face's classes write.

    Raises:
        InputError: unknown family, or a configuration that it does not read.
    """
    reader = family_named(family)
    stated = _with_labels({"model_type": reader.model_types[0], **config})
    architecture = reader.read(stated, {})
    return architecture, reader.write(architecture, stated)


def composed(zoo: str, settings: Mapping[str, Any]) -> tuple[Architecture, dict[str, Any]]:
    """The architecture that a builder of the zoo makes of its settings, and the ``config.json`` that repeats them.

    Raises:
        InputError: unknown builder, or settings that it does not take.
    """
    if zoo not in entries("zoo"):
        raise InputError(f"unknown zoo architecture {zoo!r}", suggestion(zoo, entries("zoo")))
    builder = entries("zoo")[zoo].load()
    architecture = _called(builder, zoo, {k: v for k, v in settings.items() if k not in INITIAL})
    validate(architecture)
    return architecture, _with_labels({"model_type": zoo, **settings})


def _called(builder: Callable[..., Architecture], zoo: str, settings: Mapping[str, Any]) -> Architecture:
    """The builder's answer to settings of the types that it names; lists are tuples there."""
    from pydantic import ConfigDict, ValidationError, validate_call

    try:
        return validate_call(config=ConfigDict(strict=True))(builder)(**{k: _tupled(v) for k, v in settings.items()})
    except ValidationError as problem:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in problem.errors())
        raise InputError(f"config: {zoo} does not take these settings: {found}", "Correct them.") from problem


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else value


def _with_labels(stated: dict[str, Any]) -> dict[str, Any]:
    labels = stated.pop("num_labels", None)
    if labels is not None and "id2label" not in stated:
        stated["id2label"] = {str(i): f"LABEL_{i}" for i in range(int(labels))}
        stated["label2id"] = {f"LABEL_{i}": i for i in range(int(labels))}
    return stated


def built(family: str, config: Mapping[str, Any], seed: int) -> Checkpoint:
    """A checkpoint of a family's configuration with random weights."""
    return initialised(*architecture_of(family, config), seed)


def blank(architecture: Architecture, config: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint whose tensors have shapes and no values: what one would be, without its memory."""
    from archtool.model.build import Model
    from archtool.model.checkpoint import of_module

    return of_module(Model(architecture), Source(config=config))


def initialised(architecture: Architecture, config: Mapping[str, Any], seed: int) -> Checkpoint:
    """A checkpoint with random weights: ``initializer_range`` is their spread, ``layer_scale_init_value`` the gains."""
    from archtool.model.build import build
    from archtool.model.checkpoint import of_module

    module = build(architecture, seed, std=float(config.get("initializer_range", 0.02)))
    for gain in _layer_scales(module):
        gain.data.fill_(float(config.get("layer_scale_init_value", 1.0)))
    return of_module(module, Source(config=config))


def _layer_scales(module: Model) -> list[Tensor]:
    places = (place for place in module.architecture.places if place.layer.scale)
    return [module.get_parameter(f"{place.name}.scale") for place in places]
