"""Sets that the `datasets` library reads: ``hub:NAME`` (with a network or its cache), and saved folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archtool.data.columns import ImageFiles
from archtool.data.labels import class_ids
from archtool.data.raw import Images, Table
from archtool.data.sources.cells import images_of
from archtool.data.spec import DataSpec
from archtool.errors import InputError


def read_hub(source: str) -> Mapping[str, Any]:
    """Splits (train, val, test, ...) of ``hub:NAME`` or ``hub:NAME:CONFIG``; NAME may be a local folder."""
    import datasets

    name, _, config = source.removeprefix("hub:").partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        what = f"{source}: the datasets library cannot load it ({error})"
        raise InputError(what, "check the name and the network, or give a local file") from error
    return {"val" if str(key) == "validation" else str(key): part for key, part in loaded.items()}


def read_saved(dataset: Any, spec: DataSpec) -> Table | Images:
    """One split of the `datasets` library as a table or images."""
    import datasets

    if len(dataset) == 0:
        raise InputError(f"{spec.source}: no rows", "choose another split")
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(name, datasets.Image(decode=False))
    table = Table(Path(spec.source), {name: list(dataset[name]) for name in dataset.column_names})
    return _with_paths(images_of(table, spec) if not _stored_as_paths(table, spec) else table, spec)


def _stored_as_paths(table: Table, spec: DataSpec) -> bool:
    name = table.find("image", dict(spec.columns))
    first = table.columns[name][0] if name else None
    return isinstance(first, Mapping) and first.get("bytes") is None


def _with_paths(raw: Table | Images, spec: DataSpec) -> Table | Images:
    if isinstance(raw, Images) or not _stored_as_paths(raw, spec):
        return raw
    items = [Path(str(cell["path"])) for cell in raw.column("image", dict(spec.columns))]
    labels, names = class_ids(raw, spec) if spec.labelled else (None, ())
    return Images(raw.origin, ImageFiles(items), labels, names)
