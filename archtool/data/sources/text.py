"""Raw UTF-8 text."""

from pathlib import Path

from archtool.data.raw import Text
from archtool.data.spec import DataSpec
from archtool.errors import InputError


def read_text(path: Path, spec: DataSpec) -> Text:
    """The text of a file; an empty one is an `InputError`."""
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        raise InputError(f"{path}: no rows", "the file holds no text")
    return Text(path, text)
