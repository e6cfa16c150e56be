"""Rotary settings in Hugging Face configurations: ``rope_theta`` with ``rope_scaling``, or ``rope_parameters``."""

from __future__ import annotations

from typing import Any

from archtool.errors import InputError
from archtool.families.config import Config
from archtool.operators.rotary import SCALINGS, Rotary


def read_rotary(config: Config, head_dim: int, default_theta: float = 10000.0) -> Rotary:
    """The rotary settings of a decoder whose heads have ``head_dim`` dimensions."""
    scaling = dict(config.take("rope_parameters", None) or config.take("rope_scaling", None) or {})
    config.ignore(("rope_parameters", "rope_scaling"))
    theta = float(scaling.pop("rope_theta", config.take("rope_theta", default_theta)))
    partial = float(scaling.pop("partial_rotary_factor", config.take("partial_rotary_factor", 1.0)))
    kind = scaling.pop("rope_type", scaling.pop("type", "default"))
    scaling.pop("type", None)
    if kind not in SCALINGS:
        raise InputError(f"config.json: rope type {kind!r} is not supported", f"Supported: {', '.join(SCALINGS)}.")
    _check_context(config, kind, scaling)
    turned = int(head_dim * partial)
    return Rotary(theta, turned // 2, kind, _settings(kind, scaling), turned < head_dim)


def _check_context(config: Config, kind: str, scaling: dict[str, Any]) -> None:
    if kind in ("llama3", "yarn") and "original_max_position_embeddings" not in scaling:
        scaling["original_max_position_embeddings"] = config.take(
            "original_max_position_embeddings", config.take("max_position_embeddings", 0)
        )


def _settings(kind: str, scaling: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    used = {
        "default": (),
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
        "yarn": (
            "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "truncate",
        ),
    }[kind]  # fmt: skip
    present = {k: v for k, v in scaling.items() if v is not None}
    unknown = sorted(set(present) - set(used))
    if unknown and kind != "default":
        raise InputError(f"config.json: rope settings {', '.join(unknown)} are not supported for {kind!r}", "")
    return tuple((name, float(present[name])) for name in used if name in present)
