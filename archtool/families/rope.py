"""Rotary settings in Hugging Face configurations: ``rope_theta`` with ``rope_scaling``, or ``rope_parameters``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from archtool.errors import InputError
from archtool.families.config import Config
from archtool.operators.rotary import CONTEXT, Rotary

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", CONTEXT),
    "yarn": ("factor", CONTEXT, "attention_factor", "beta_fast", "beta_slow", "truncate"),
    "longrope": (CONTEXT, "attention_factor"),
}
PLAIN = ("default", "linear", "llama3", "yarn")
FACTORS = ("short_factor", "long_factor")
NEEDED = {"linear": ("factor",), "llama3": SETTINGS["llama3"], "yarn": ("factor", CONTEXT)}


def read_rotary(
    config: Config,
    head_dim: int,
    kinds: tuple[str, ...] = PLAIN,
    partial: bool = False,
    renamed: Mapping[str, str] = {},
) -> Rotary:
    """The rotary settings of a decoder whose heads have ``head_dim`` dimensions.

    Args:
        kinds: rope types that the family's class has.
        renamed: old names of rope types.
        partial: whether it can rotate a part of each head only (``partial_rotary_factor``).
    """
    old, new = config.take("rope_scaling", None), config.take("rope_parameters", None)
    said = {k: v for k, v in (old or new or {}).items() if v is not None}
    theta = float(said.pop("rope_theta", config.take("rope_theta", 10000.0)))
    fraction = float(said.pop("partial_rotary_factor", config.take("partial_rotary_factor", 1.0)))
    plain_kind = said.pop("type", "default")
    kind = said.pop("rope_type", plain_kind)
    kind = renamed.get(kind, kind)
    if kind not in kinds:
        raise InputError(
            f"config.json: rope type {kind!r} is not supported for {config.family}",
            f"Supported: {', '.join(kinds)}.",
        )
    turned = _turned(config, head_dim, fraction, partial)
    factors = _factors(config, said, turned // 2) if kind == "longrope" else ()
    return Rotary(theta, turned // 2, kind, _settings(config, kind, said), turned < head_dim, factors=factors)


def _factors(config: Config, said: dict[str, Any], pairs: int) -> tuple[tuple[float, ...], ...]:
    """LongRoPE's two lists, and its attention factor where only lengths are given."""
    lists = tuple(tuple(float(x) for x in said.pop(name, ())) for name in FACTORS)
    if {len(row) for row in lists} != {pairs}:
        raise InputError(
            f"config.json: {' and '.join(FACTORS)} must have {pairs} numbers each", "One for every rotated pair."
        )
    context = config.take(CONTEXT, None) or said.get(CONTEXT) or config.number("max_position_embeddings")
    factor = said.pop("factor", None) or config.number("max_position_embeddings") / context
    said.setdefault("attention_factor", math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0)
    return lists


def _turned(config: Config, head_dim: int, fraction: float, partial: bool) -> int:
    turned = int(head_dim * fraction)
    if turned != head_dim and not partial:
        raise InputError(f"config.json: partial_rotary_factor={fraction} is not supported for {config.family}", "")
    if turned % 2 or turned < 2:
        raise InputError(
            f"config.json: {turned} of {head_dim} head dimensions are rotated; they must be pairs",
            "Correct head_dim or partial_rotary_factor.",
        )
    return turned


def _settings(config: Config, kind: str, said: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    context = config.take(CONTEXT, None)
    values = dict(said)
    if CONTEXT in SETTINGS[kind]:
        values[CONTEXT] = context or values.get(CONTEXT) or config.number("max_position_embeddings")
    if kind == "yarn":
        _yarn(config, values)
    unknown = sorted(set(values) - set(SETTINGS[kind]))
    missing = [name for name in NEEDED.get(kind, ()) if name not in values]
    if unknown or missing:
        what = f"settings {', '.join(unknown)} are not supported" if unknown else f"{', '.join(missing)} missing"
        raise InputError(f"config.json: rope type {kind!r}: {what}", f"Known: {', '.join(SETTINGS[kind])}.")
    return tuple((name, float(values[name])) for name in SETTINGS[kind] if name in values)


def _yarn(config: Config, values: dict[str, Any]) -> None:
    """DeepSeek's spellings: the factor from the two lengths, the attention factor from ``mscale``."""
    values.setdefault("factor", config.number("max_position_embeddings") / values[CONTEXT])
    top, bottom = values.pop("mscale", None), values.pop("mscale_all_dim", None)
    if top and bottom and values["factor"] > 1:
        log = 0.1 * math.log(values["factor"])
        values.setdefault("attention_factor", (log * top + 1.0) / (log * bottom + 1.0))
    for name in ("beta_fast", "beta_slow"):
        if not values.get(name, True):
            del values[name]


def write_rotary(rotary: Rotary) -> dict[str, Any]:
    """The settings as ``rope_parameters``, as `read_rotary` reads them; the fraction is not among them."""
    kinds = {CONTEXT: int, "truncate": bool}
    settings = {name: kinds.get(name, float)(value) for name, value in rotary.settings}
    factors = {name: list(row) for name, row in zip(FACTORS, rotary.factors, strict=False)}
    return {"rope_type": rotary.scaling, "rope_theta": rotary.theta, **settings, **factors}
