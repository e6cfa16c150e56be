"""Padded: zeros up to uniform sizes; exact and loadable everywhere, without any gain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from archtool.errors import ArchtoolError
from archtool.export.base import DialectRefused, Form, base_config, family_config
from archtool.export.padding import padded
from archtool.export.proof import prove
from archtool.families.registry import family_for, family_named
from archtool.ir.architecture import Architecture
from archtool.ir.encodings import EncodingPlan
from archtool.ir.table import shape, stored
from archtool.model.checkpoint import Checkpoint
from archtool.model.save import file_shapes

HEADS = ("num_attention_heads", "num_key_value_heads", "head_dim", "n_head", "n_heads")


def form(checkpoint: Checkpoint) -> Form:
    """The model in the smallest uniform sizes that its class takes, filled up with zeros."""
    reasons: list[str] = []
    for config in _configs(checkpoint):
        try:
            target = _target(checkpoint, config)
            made = padded(checkpoint, target)
            prove(made, config)
        except (ArchtoolError, KeyError) as error:
            reasons.append(str(error))
            continue
        return Form(made, config, notes=(_share(checkpoint, made), *_not_nested(checkpoint, made)))
    raise DialectRefused("; ".join(dict.fromkeys(reasons)))


def _configs(checkpoint: Checkpoint) -> Iterator[dict[str, Any]]:
    """Configurations to try: this one with the largest, then the original's numbers where blocks differ."""
    derived, base = family_config(checkpoint), base_config(checkpoint)
    open_keys = [key for key, value in derived.items() if value is None and base.get(key) is not None]
    said = {key: value for key, value in derived.items() if value is not None or key in base}
    original = {key: base[key] for key in open_keys}
    yield {**said, **original, **_largest(checkpoint, open_keys)}
    yield {**said, **original}
    yield {**said, **original, **{key: base[key] for key in HEADS if key in base}}


def _largest(checkpoint: Checkpoint, keys: list[str]) -> dict[str, int]:
    """The widest feed-forward layer, where only that differs."""
    sizes = [n for axis, n in checkpoint.architecture.sizes if axis.endswith(".ffn.hidden")]
    known: Mapping[str, int] = {
        "intermediate_size": max(sizes, default=0),
        "hidden_dim": max(sizes, default=0),
    }
    return {key: known[key] for key in keys if known.get(key)}


def _target(checkpoint: Checkpoint, config: Mapping[str, Any]) -> Architecture:
    """The architecture that the configuration means, with this file's kind of head."""
    shapes = file_shapes(replace(checkpoint, plan=EncodingPlan()))
    family = family_for(config, shapes)
    if family.name != family_named(checkpoint.architecture.family).name:
        raise DialectRefused(f"the configuration is read as {family.name}")
    return family.read(config, shapes)


def _not_nested(checkpoint: Checkpoint, made: Checkpoint) -> Iterator[str]:
    """What the user should know where zeros end the nesting of an axis."""
    before, after = (0 if c.nesting is None else len(c.nesting.levels) for c in (checkpoint, made))
    if after < before:
        yield f"{before - after} of {before} nested axes are filled up with zeros and not nested any more"


def _share(checkpoint: Checkpoint, made: Checkpoint) -> str:
    now, before = _entries(made.architecture), _entries(checkpoint.architecture)
    return f"{(now - before) / now:.1%} of the numbers in this file are padding; it is not smaller or faster for them"


def _entries(arch: Architecture) -> int:
    total = 0
    for spec in stored(arch).values():
        count = 1
        for n in shape(spec, arch):
            count *= n
        total += count
    return total
