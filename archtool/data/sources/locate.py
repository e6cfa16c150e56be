"""Which file(s) of a source hold the wanted split, and which reader reads them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archtool.data.raw import Raw, Table
from archtool.data.sources.delimited import read_delimited
from archtool.data.sources.hub import read_hub, read_saved
from archtool.data.sources.idx import read_idx
from archtool.data.sources.image_folder import class_folders, read_image_folder
from archtool.data.sources.jsonl import read_jsonl
from archtool.data.sources.npz import read_npz
from archtool.data.sources.parquet import read_parquet
from archtool.data.sources.sklearn_digits import read_digits
from archtool.data.sources.text import read_text
from archtool.data.spec import DataSpec, did_you_mean
from archtool.errors import InputError, UsageError

READERS: Mapping[str, Callable[[Path, DataSpec], Raw]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".txt": read_text,
    ".gz": read_idx,
    ".idx": read_idx,
    "ubyte": read_idx,
}

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}


@dataclass(frozen=True)
class Reading:
    """Raw data, and the split that is still to be cut from it (empty when it is the split already)."""

    raw: Raw
    split: str
    fractions: tuple[float, float, float]


def read(spec: DataSpec) -> Reading:
    """The raw data of a spec.

    A folder that has files or folders for splits is cut by them; where it has train but no val, val is
    a seeded share of train, and train is the rest. Everything else is cut by the fractions.

    Raises:
        InputError: nothing there, unreadable, or of an unknown kind.
        UsageError: a split that the source does not have.
    """
    if spec.source.startswith("sklearn:"):
        return Reading(read_digits(spec.source), spec.split, spec.fractions)
    if spec.source.startswith("hub:"):
        parts = read_hub(spec.source)
        return _of_parts(spec, parts, lambda split: read_saved(parts[split], spec))
    path = Path(spec.source)
    if path.is_file():
        return Reading(read_file(path, spec), spec.split, spec.fractions)
    if path.is_dir():
        return _read_folder(path, spec)
    raise InputError(f"{path}: no such file or folder", "give a file, a folder, sklearn:digits, or hub:NAME")


def read_file(path: Path, spec: DataSpec) -> Raw:
    """One file, by its suffix."""
    ending = path.suffix.lower() or ("ubyte" if path.name.endswith("ubyte") else "")
    reader = READERS.get(ending)
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise InputError(f"{path}: data files that end in {ending!r} are not known", f"known are {known}")
    try:
        return reader(path, spec)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})", "check the file and its permissions") from error


def split_of(name: str) -> str:
    """The split that a file or folder name says, or nothing."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((split for split, known in SPLIT_WORDS.items() if set(words) & set(known)), "")


def _read_folder(path: Path, spec: DataSpec) -> Reading:
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and split_of(entry.name)]
    with_images = {split_of(entry.name): entry for entry in folders if class_folders(entry)}
    if with_images:
        classes = spec.classes or tuple(sorted({c.name for f in folders for c in class_folders(f)}))
        return _of_parts(spec, with_images, lambda s: read_image_folder(with_images[s], classes))
    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        return _read_saved_folder(path, spec)
    if class_folders(path):
        return Reading(read_image_folder(path, spec.classes), spec.split, spec.fractions)
    return _read_files(path, spec)


def _read_saved_folder(path: Path, spec: DataSpec) -> Reading:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(str(path))
    if not isinstance(loaded, DatasetDict):
        return Reading(read_saved(loaded, spec), spec.split, spec.fractions)
    parts = {split_of(str(name)) or str(name): part for name, part in loaded.items()}
    return _of_parts(spec, parts, lambda split: read_saved(parts[split], spec))


def _read_files(path: Path, spec: DataSpec) -> Reading:
    files = [f for f in sorted(path.iterdir()) if f.is_file() and _is_data(f)]
    parts: dict[str, list[Path]] = {}
    for file in files:
        parts.setdefault(split_of(file.stem), []).append(file)
    unsplit = parts.pop("", [])
    if parts:
        return _of_parts(spec, parts, lambda split: _read_shards(parts[split], spec))
    if not unsplit:
        raise InputError(f"{path}: no data in this folder", f"known are {', '.join(sorted(READERS))}")
    if len(unsplit) > 1:
        names = ", ".join(file.name for file in unsplit)
        raise InputError(f"{path}: several data files and no split in their names: {names}", "name one file")
    return Reading(read_file(unsplit[0], spec), spec.split, spec.fractions)


def _is_data(file: Path) -> bool:
    if file.name.endswith("ubyte") or file.suffix == ".gz":
        return "images" in file.name
    return file.suffix.lower() in READERS


def _read_shards(files: list[Path], spec: DataSpec) -> Raw:
    shards = [read_file(file, spec) for file in files]
    if len(shards) == 1:
        return shards[0]
    tables = [shard for shard in shards if isinstance(shard, Table)]
    names = list(tables[0].columns) if tables else []
    if len(tables) < len(shards) or any(list(table.columns) != names for table in tables):
        shown = ", ".join(file.name for file in files)
        raise InputError(f"{files[0].parent}: {shown} do not hold the same columns", "name one file")
    columns = {name: [value for table in tables for value in table.columns[name]] for name in names}
    return Table(files[0].parent, columns)


def _of_parts(spec: DataSpec, parts: Mapping[str, object], reader: Callable[[str], Raw]) -> Reading:
    """The wanted split of a source that has splits of its own."""
    if spec.split in ("train", "val") and "train" in parts and "val" not in parts:
        train, val, _ = spec.fractions
        share = val / (train + val) if train + val else 0.0
        return Reading(reader("train"), spec.split, (1 - share, share, 0.0))
    if spec.split in parts:
        return Reading(reader(spec.split), "", spec.fractions)
    have = ", ".join(parts)
    what = f"no split {spec.split!r} in {spec.source}" if spec.split else f"{spec.source} has several splits"
    raise UsageError(what, f"choose one of {have}{did_you_mean(spec.split, parts)}")
