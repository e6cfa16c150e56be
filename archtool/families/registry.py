"""Which families there are and which of them reads a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from archtool.errors import InputError
from archtool.families.base import Family, Shapes
from archtool.families.native import Native
from archtool.registry import entries, load


def family_named(name: str) -> Family:
    """The family of that name; ``""`` is that of models which only archtool knows."""
    if not name:
        return Native()
    if name not in entries("families"):
        raise InputError(f"unknown family {name!r}", f"Known families: {', '.join(sorted(entries('families')))}.")
    made: Family = load("families", name)()
    return made


def model_types() -> dict[str, str]:
    """``model_type`` → family name, for every family."""
    return {kind: name for name in entries("families") for kind in family_named(name).model_types}


def family_for(config: Mapping[str, Any], shapes: Shapes) -> Family:
    """The family that reads a configuration: one that detects it as its own, else by its ``model_type``."""
    kind = config.get("model_type")
    for family in map(family_named, entries("families")):
        if getattr(family, "detects", None) and family.detects(config, shapes):  # type: ignore[attr-defined]
            return family
    known = model_types()
    if kind in known:
        return family_named(known[str(kind)])
    near = get_close_matches(str(kind), known, 1)
    like = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"config.json: no family reads model_type {kind!r}",
        f"Known: {', '.join(sorted(known))}.{like} For other names of a known family give --names.",
    )
