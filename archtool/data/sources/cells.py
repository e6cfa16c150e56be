"""Tables whose cells hold encoded images, as the `datasets` library writes them."""

from collections.abc import Mapping
from typing import Any

from archtool.data.columns import ImageFiles
from archtool.data.labels import class_ids
from archtool.data.raw import Images, Table, bad_value
from archtool.data.spec import DataSpec


def images_of(table: Table, spec: DataSpec) -> Table | Images:
    """The table itself, or `Images` where its image column holds ``{"bytes": ...}`` or bytes."""
    mapping = dict(spec.columns)
    name = table.find("image", mapping)
    if name is None:
        return table
    items = [_bytes(table, row, value) for row, value in enumerate(table.columns[name])]
    labels, names = class_ids(table, spec) if spec.labelled else (None, ())
    return Images(table.origin, ImageFiles(items), labels, names)


def _bytes(table: Table, row: int, value: Any) -> bytes:
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(content, bytes):
        raise bad_value(table, row, "the image column holds no encoded image")
    return content
