"""Widths of mobile hybrids as their configurations say them: rounding, ratios, strides, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from archtool.errors import InputError
from archtool.families.config import Config
from archtool.ir.architecture import Architecture
from archtool.operators.act import Act
from archtool.operators.activation import canonical, spelled
from archtool.operators.mbconv import MBConv

HYBRID = (3, 4, 5)
"""The layers that convolve and attend."""
STRIDES: Mapping[int, tuple[int, int]] = {32: (2, 2), 16: (2, 1), 8: (1, 1)}
"""``output_stride`` → strides of the last two layers; at 8 the last is dilated."""


def axis_of(sizes: Mapping[str, int], k: int) -> str:
    """The axis of the stream of layer ``k``: its own, or that of a layer before which a residual joins to it."""
    return next(f"s{i}.width" for i in range(k, -1, -1) if f"s{i}.width" in sizes)


def rounded(value: float, divisor: int = 8, least: int = 0) -> int:
    """A width as the field rounds it: the nearest multiple, but never more than a tenth below."""
    near = max(least or divisor, int(value + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * value else near


def expanded(width: int, ratio: float) -> int:
    """Channels inside an inverted residual."""
    return rounded(round(width * ratio))


def numbers(c: Config, key: str, default: Sequence[int], count: int) -> tuple[int, ...]:
    """A list of ``count`` positive whole numbers."""
    value = c.take(key, None)
    value = list(default) if value is None else value
    whole = isinstance(value, list | tuple) and all(isinstance(n, int) and n > 0 for n in value)
    if not whole or len(value) != count:
        raise InputError(f"config.json: {key} is {value!r}, not {count} positive whole numbers", f"Correct {key}.")
    return tuple(value)


def found(arch: Architecture, kind: type[Any]) -> list[Any]:
    """All operators of a class."""
    return [place.layer.op for place in arch.places if isinstance(place.layer.op, kind)]


def only(values: Iterable[Any]) -> Any:
    """The one value that there is; None where there are several."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def agreed(pairs: Iterable[tuple[int, int]], candidates: Sequence[Any], made: Callable[[int, Any], int]) -> Any:
    """The first candidate, or quotient of a pair, from which ``made(of, it)`` is the width of every pair; else None."""
    each = list(pairs)
    tried = [*candidates, *(width / of for of, width in each)]
    return next((it for it in tried if all(made(of, it) == width for of, width in each)), None)


def said_expansion(arch: Architecture, said: float) -> float | None:
    """The ratio of all inverted residuals."""
    places = [p for p in arch.places if isinstance(p.layer.op, MBConv)]
    pairs = [(p.site.stream.size(arch.size), p.site.size("hidden")) for p in places]
    return agreed(pairs, (said,), expanded)  # type: ignore[no-any-return]


def said_stride(arch: Architecture) -> int | None:
    """``output_stride`` from the strides of the last two layers."""
    ops = [arch.block(f"down{k}").layers[0].op for k in HYBRID[1:]]
    strides = tuple(op.stride[0] for op in ops if isinstance(op, MBConv))
    return next((number for number, wanted in STRIDES.items() if wanted == strides), None)


def said_act(arch: Architecture, base: Mapping[str, Any]) -> str | None:
    """The activation of all layers; the base's own word where it means the same."""
    act = only(op.act for op in (*found(arch, Act), *found(arch, MBConv)))
    said = base.get("hidden_act")
    return said if said is not None and canonical(str(said)) == act else (None if act is None else spelled(act))
