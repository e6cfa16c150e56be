"""Slicing tables: submodels by name, in the shape of Gemma 3n's MatFormer tables (csv).

    name,# Layers,# Effective Params (B),loss,FFN Hidden Dims,Layers Skipped
    small,2,0.0012,1.31,"[2_048 * 4, 2_048 * 8]","[1]"

Layers are the blocks of all stages by number. Widths stand for the layers that are left, in order, as whole numbers or
products of them; the fourth column is a quality under any name, which is not read. Sizes of other nested axes stand in
a last column, as JSON by axis.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archtool.errors import InputError, Where
from archtool.ir.architecture import Architecture
from archtool.ir.nesting import Submodel
from archtool.registry import suggestion

NAME, LAYERS, PARAMETERS, WIDTHS, SKIPPED = (
    "name", "# Layers", "# Effective Params (B)", "FFN Hidden Dims", "Layers Skipped",
)  # fmt: skip
OTHER = "Other Sizes"
FFN = "hidden"
_PRODUCT = re.compile(r"[\d_]+(\s*\*\s*[\d_]+)*")


@dataclass(frozen=True)
class Slice:
    """A named submodel, with its parameters and its quality where they are known."""

    name: str
    submodel: Submodel
    parameters: float | None = None
    quality: float | None = None


def write_slices(slices: Iterable[Slice], arch: Architecture, quality_name: str = "quality") -> str:
    """The text of a slicing table."""
    layers, buffer = _layers(arch), io.StringIO()
    rows = list(slices)
    others = any(_others(row.submodel) for row in rows)
    writer = csv.writer(buffer, lineterminator="\n")
    head = [NAME, LAYERS, PARAMETERS, quality_name, WIDTHS, SKIPPED]
    writer.writerow([*head, OTHER] if others else head)
    for row in rows:
        counts, skipped = dict(row.submodel.counts), row.submodel.skipped
        kept = [block for block in layers if block not in skipped]
        widths = [_width(block, counts, arch) for block in kept]
        gone = sorted(layers.index(block) for block in skipped)
        billions = "" if row.parameters is None else f"{row.parameters / 1e9:.9g}"
        quality = "" if row.quality is None else repr(row.quality)
        cells = [row.name, len(kept), billions, quality, widths, gone or ""]
        writer.writerow([*cells, json.dumps(_others(row.submodel))] if others else cells)
    return buffer.getvalue()


def _width(block: str, counts: Mapping[str, int], arch: Architecture) -> int:
    """The width of a block's first feed-forward layer; 0 where it has none."""
    axis = _ffn(block, arch)
    return counts.get(axis, arch.size[axis]) if axis else 0


def _ffn(block: str, arch: Architecture) -> str:
    """The axis of a block's feed-forward layer."""
    named = (axis for axis in arch.size if axis.startswith(f"{block}.") and axis.endswith(f".{FFN}"))
    return next(named, "")


def _others(submodel: Submodel) -> dict[str, int]:
    return {axis: n for axis, n in submodel.counts if axis.rpartition(".")[2] != FFN}


def _layers(arch: Architecture) -> list[str]:
    return [block.name for block in arch.blocks if block.stage]


def read_slices(path: Path, arch: Architecture) -> dict[str, Slice]:
    """The submodels of a slicing table by name.

    Raises:
        InputError: the file cannot be read, or a row does not fit the architecture; the message names row and column.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} cannot be read: {problem}", "Give a csv file.") from problem
    rows = csv.DictReader(lines)
    missing = [column for column in (NAME, WIDTHS) if column not in (rows.fieldnames or ())]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}", f"A slicing table has {NAME!r} and {WIDTHS!r}.")
    found: dict[str, Slice] = {}
    for row in rows:
        where = Where(path, rows.line_num, 1, lines[rows.line_num - 1])
        made = _read(row, arch, where)
        if made.name in found:
            raise InputError(f"{path} has two slices named {made.name!r}", "Rename one.", where)
        found[made.name] = made
    return found


def slice_named(slices: Mapping[str, Slice], name: str) -> Slice:
    """The slice of a name; `InputError` lists near ones."""
    if name not in slices:
        raise InputError(f"the table has no slice {name!r}", suggestion(name, slices))
    return slices[name]


def _read(row: Mapping[str, str | None], arch: Architecture, where: Where) -> Slice:
    layers = _layers(arch)
    skipped = [] if (row.get(SKIPPED) or "").strip() in ("", "null", "None") else _numbers(row, SKIPPED, where)
    beyond = [n for n in skipped if n >= len(layers)]
    if beyond:
        raise InputError(f"layer {beyond[0]} is skipped; the model has {len(layers)}", "They count from 0.", where)
    gone = tuple(layers[n] for n in skipped)
    kept, widths = [block for block in layers if block not in gone], _numbers(row, WIDTHS, where)
    if len(widths) != len(kept):
        what = f"{len(widths)} widths for {len(kept)} layers ({len(layers)} without the {len(gone)} skipped ones)"
        raise InputError(what, f"{WIDTHS} has one for each layer that is left.", where)
    counts = dict(_other_sizes(row, where))
    for block, width in zip(kept, widths, strict=True):
        axis = _ffn(block, arch)
        if not width <= arch.size.get(axis, 0) or bool(width) != bool(axis):
            what = f"{block} cannot be {width} wide: it has {arch.size.get(axis, 0)}"
            raise InputError(what, "A slice is a part of the model.", where)
        if axis:
            counts[axis] = width
    return Slice(str(row[NAME]), Submodel(tuple(counts.items()), gone))


def _other_sizes(row: Mapping[str, str | None], where: Where) -> dict[str, int]:
    text = row.get(OTHER) or "{}"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(type(n) is int and n > 0 for n in found.values()):
        raise InputError(f"{OTHER} is {text!r}", 'Write sizes by axis: {"b0.attn.kv": 2}.', where)
    return found


def _numbers(row: Mapping[str, str | None], column: str, where: Where) -> list[int]:
    """A list of whole numbers or products, in brackets."""
    text = (row.get(column) or "").strip()
    items: Sequence[str] = [item.strip() for item in text.removeprefix("[").removesuffix("]").split(",")]
    items = [item for item in items if item]
    bad = next((item for item in items if not _PRODUCT.fullmatch(item)), None)
    if bad is not None or not (text.startswith("[") and text.endswith("]")):
        raise InputError(f"{column} is {text!r}", "Write a list such as [2_048 * 4, 8192].", where)
    return [math.prod(int(factor.strip("_ ").replace("_", "") or 0) for factor in item.split("*")) for item in items]
