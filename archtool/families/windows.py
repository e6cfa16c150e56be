"""Sliding windows in Hugging Face configurations: one number, and which layers have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archtool.errors import InputError
from archtool.families.config import Config

FULL, SLIDING = "full_attention", "sliding_attention"


def window_of(c: Config) -> int:
    """``sliding_window``; 0 where there is none."""
    return c.number("sliding_window") if c.take("sliding_window", None) is not None else 0


def by_layer(c: Config, window: int, kinds: Sequence[str]) -> list[int]:
    """The window of every layer: ``layer_types``, or else ``kinds``, says which layers have one."""
    said = c.take("layer_types", None) or kinds
    wrong = sorted({str(kind) for kind in said} - {FULL, SLIDING})
    if wrong or len(said) != len(kinds):
        what = f"has {', '.join(wrong)}" if wrong else f"lists {len(said)} layers of {len(kinds)}"
        raise InputError(f"config.json: layer_types {what}", f"Each layer is {FULL!r} or {SLIDING!r}.")
    if SLIDING in said and not window:
        raise InputError("config.json: layer_types has sliding layers but no sliding_window is on", "Give one.")
    return [window if kind == SLIDING else 0 for kind in said]


def layer_keys(windows: Sequence[int]) -> dict[str, Any]:
    """``sliding_window`` and ``layer_types``; the window is None where there is none, or more than one."""
    sizes = {w for w in windows if w}
    return {
        "sliding_window": sizes.pop() if len(sizes) == 1 else None,
        "layer_types": [SLIDING if w else FULL for w in windows],
    }
