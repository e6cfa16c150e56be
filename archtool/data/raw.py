"""What readers return before anything is encoded: a table, images, or one text.

Line numbers are kept, so that an error about a value can name its line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.spec import did_you_mean
from archtool.errors import InputError, Where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archtool.data.columns import Column

ALIASES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "content", "review", "document", "story"),
    "text_pair": ("text_pair", "sentence_pair", "hypothesis"),
    "label": ("label", "labels", "class", "target"),
    "sentence1": ("sentence1", "text1", "sentence_a", "premise"),
    "sentence2": ("sentence2", "text2", "sentence_b"),
    "score": ("score", "similarity_score", "similarity", "label"),
    "source": ("source", "src"),
    "target": ("target", "tgt", "translation"),
    "image": ("image", "img", "pixel_values"),
    "date": ("date", "datetime", "timestamp", "time"),
}


@dataclass(frozen=True)
class Table:
    """Columns of equal length; ``lines`` are 1-based line numbers (empty where the format has none)."""

    origin: Path
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def select(self, rows: "NDArray[Any]") -> "Table":
        """The table of these rows, in this order."""
        picked = {name: [column[int(row)] for row in rows] for name, column in self.columns.items()}
        lines = [self.lines[int(row)] for row in rows] if self.lines else ()
        return replace(self, columns=picked, lines=lines)

    def where(self, row: int, text: str = "") -> Where | None:
        """The place of a row, where the format has lines."""
        return Where(self.origin, self.lines[row], 1, text) if self.lines else None

    def find(self, role: str, mapping: Mapping[str, str]) -> str | None:
        """The column that plays a role: as mapped, else by a customary name; None where there is none.

        Raises:
            InputError: the mapping names a column that does not exist.
        """
        if role in mapping:
            if mapping[role] not in self.columns:
                raise self.missing(role, mapping[role])
            return mapping[role]
        by_name = {name.lower(): name for name in reversed(list(self.columns))}
        return next((by_name[alias] for alias in ALIASES.get(role, (role,)) if alias in by_name), None)

    def column(self, role: str, mapping: Mapping[str, str]) -> Sequence[Any]:
        """The values of the column that plays a role; `InputError` lists the columns where none does."""
        name = self.find(role, mapping)
        if name is None:
            raise self.missing(role, role)
        return self.columns[name]

    def missing(self, role: str, name: str) -> InputError:
        """The error for a column that is not there."""
        have = ", ".join(self.columns)
        near = did_you_mean(name, self.columns)
        return InputError(
            f"{self.origin}: no column {name!r} for {role}",
            f"the columns are {have}{near}; map them with --columns {role}=NAME",
        )


@dataclass(frozen=True)
class Images:
    """Pixels in 0..255, (H, W) or (H, W, C) each, with class ids where known."""

    origin: Path
    pixels: "Column"
    labels: "NDArray[Any] | None"
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Text:
    """One running text."""

    origin: Path
    text: str


Raw = Table | Images | Text


def numbers(table: Table, role: str, mapping: Mapping[str, str]) -> list[float]:
    """A column as finite numbers; `InputError` names the first line that is not one."""
    import math

    out = []
    for row, value in enumerate(table.column(role, mapping)):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise bad_value(table, row, f"{role} {value!r} is not a finite number")
        out.append(number)
    return out


def strings(table: Table, role: str, mapping: Mapping[str, str]) -> list[str]:
    """A column as text; `InputError` names the first line that holds something else."""
    values = table.column(role, mapping)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise bad_value(table, row, f"{role} {value!r} is not text")
    return list(values)


def bad_value(table: Table, row: int, what: str) -> InputError:
    """An error that names the file and the line (or the row, counted from 1) of a bad value."""
    place = f"line {table.lines[row]}" if table.lines else f"row {row + 1}"
    return InputError(
        f"{table.origin}, {place}: {what}", "correct the value, or choose another column", table.where(row)
    )
