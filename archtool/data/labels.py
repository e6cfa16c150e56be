"""Class labels of a table as integer ids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archtool.data.raw import Table, bad_value
from archtool.data.spec import DataSpec, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def class_ids(table: Table, spec: DataSpec) -> "tuple[NDArray[Any], tuple[str, ...]]":
    """Ids (N,) int64 and class names in id order.

    Integers stay as they are, and have no names unless the spec gives some; names are numbered in the
    spec's order, else sorted.

    Raises:
        InputError: a name that the spec does not list, or a negative id, with its line.
    """
    import numpy as np

    values = table.column("label", dict(spec.columns))
    ids = None if set(map(str, values)) <= set(spec.classes) else _integers(values)
    if ids is not None:
        for row, label in enumerate(ids):
            if label < 0 or (spec.classes and label >= len(spec.classes)):
                raise bad_value(table, row, f"label {label} is not a class id")
        return np.asarray(ids, dtype=np.int64), spec.classes
    names = spec.classes or tuple(sorted({str(value) for value in values}))
    number = {name: place for place, name in enumerate(names)}
    for row, value in enumerate(values):
        if value is None or value == "" or str(value) not in number:
            raise bad_value(table, row, f"label {value!r} is not a class{did_you_mean(str(value), names)}")
    return np.asarray([number[str(value)] for value in values], dtype=np.int64), names


def _integers(values: Sequence[Any]) -> list[int] | None:
    """The values as integers if all of them are."""
    try:
        return [int(value) if isinstance(value, str) else _exact(value) for value in values]
    except (TypeError, ValueError):
        return None


def _exact(value: Any) -> int:
    if int(value) != value:
        raise ValueError(value)
    return int(value)
