"""Schemes by their field names: ``w8``, ``w8a16``, ``w4g64``, ``w4a16g32`` with ``asym`` for zero points.

The number after ``w`` is the bits of a weight, after ``g`` the group of columns that share a scale (none at 8 bits: a
row). ``a16``/``a32`` say that activations stay floating point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from archtool.errors import UsageError
from archtool.ir.encodings import Affine

_SCHEME = re.compile(r"w(?P<bits>\d+)(a(?P<activations>\d+))?(g(?P<group>\d+))?(?P<asym>-?asym)?")
GROUPS = {8: 0, 4: 64}


@dataclass(frozen=True)
class Scheme:
    """A weight-only scheme."""

    name: str
    encoding: Affine


def parse_scheme(text: str) -> Scheme:
    """Read a scheme; anything that cannot be stored and executed is a `UsageError`."""
    match = _SCHEME.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is not a scheme", "Write for example w8, w8a16, w4a16g64 or w4g32-asym.")
    bits, activations = int(match["bits"]), int(match["activations"] or 16)
    if bits not in GROUPS:
        raise UsageError(f"{text!r}: {bits}-bit weights are not supported", "Use 8 or 4 bits.")
    if activations not in (16, 32):
        raise UsageError(f"{text!r}: activations stay floating point for now", f"Write w{bits}a16.")
    group = int(match["group"]) if match["group"] else GROUPS[bits]
    if group and (group < 8 or group & (group - 1)):
        raise UsageError(f"{text!r}: groups of {group} columns are not supported", "Use a power of two from 8 on.")
    return Scheme(text, Affine(bits, group, not match["asym"]))
