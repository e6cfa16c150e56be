"""Which files hold the weights of a checkpoint, and the joint table of several shards."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from archtool.checkpoint.header import Shard, TensorInfo, read_header, unique_object
from archtool.errors import InputError

SAFETENSORS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLE_NAME = "pytorch_model.bin"
PICKLE_INDEX_NAME = "pytorch_model.bin.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

Listing = tuple[tuple[TensorInfo, ...], tuple[Shard, ...], dict[str, bytes]]


def find_weights(path: Path) -> Path:
    """The weight or index file that stands for ``path``; raises InputError where there is none."""
    if path.is_dir():
        return _find_in_folder(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.", hint="Give a model folder or a .safetensors file.")
    return path


def _find_in_folder(folder: Path) -> Path:
    for name in (SAFETENSORS_NAME, INDEX_NAME):
        if (folder / name).is_file():
            return folder / name
    singles = sorted(folder.glob("*.safetensors"))
    if len(singles) == 1:
        return singles[0]
    if len(singles) > 1:
        names = ", ".join(single.name for single in singles)
        raise InputError(
            f"{folder} holds {len(singles)} safetensors files and no {INDEX_NAME}: {names}.",
            hint="Give one of the files itself, or restore the index that lists them.",
        )
    for name in (PICKLE_NAME, PICKLE_INDEX_NAME):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} holds no weights: neither {SAFETENSORS_NAME}, {INDEX_NAME} nor {PICKLE_NAME}.",
        hint="Give the folder that `save_pretrained` wrote, or a .safetensors file.",
    )


def open_file(path: Path) -> Listing:
    """The table of one weight file; the suffix tells a pickle from safetensors."""
    if path.suffix in PICKLE_SUFFIXES:
        from archtool.checkpoint.pickled import read_pickle

        infos, resident = read_pickle(path)
        return infos, (Shard(path.name, tuple(info.name for info in infos), {}),), resident
    infos, metadata = read_header(path)
    return infos, (Shard(path.name, tuple(info.name for info in infos), metadata),), {}


def open_index(path: Path) -> Listing:
    """The joint table of the shards that an index file lists, in the order of their file names.

    A tensor that is in a shard but not in the index is part of the table, as in `transformers`.
    """
    weight_map = _read_weight_map(path)
    infos: dict[str, TensorInfo] = {}
    shards: list[Shard] = []
    resident: dict[str, bytes] = {}
    for filename in sorted(set(weight_map.values())):
        shard_infos, shard, held = open_file(_shard_path(path, filename))
        _check_distinct(path, infos, shard_infos)
        infos.update({info.name: info for info in shard_infos})
        shards.extend(shard)
        resident.update(held)
    _check_listed(path, weight_map, infos)
    return tuple(infos.values()), tuple(shards), resident


def _read_weight_map(path: Path) -> dict[str, str]:
    try:
        table: Any = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=unique_object)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.", hint="Download or export it again.") from error
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{path} has no weight_map of tensor names to files.", hint="Export the checkpoint again.")
    for name, filename in weight_map.items():
        _check_filename(path, name, filename)
    return weight_map


def _check_filename(path: Path, name: str, filename: Any) -> None:
    """Shards lie next to their index: only plain file names are followed."""
    plain = isinstance(filename, str) and filename not in ("", ".", "..")
    if not plain or any(char in filename for char in "/\\\0"):
        raise InputError(
            f"{path} places tensor {name!r} in {filename!r}, which points outside its folder.",
            hint="An index may only name files of its own folder: do not trust this checkpoint.",
        )


def _shard_path(index: Path, filename: str) -> Path:
    path = index.parent / filename
    if not path.is_file():
        raise InputError(f"{index} lists the shard {filename}, which is missing.", hint="Download the missing file.")
    return path


def _check_distinct(index: Path, infos: dict[str, TensorInfo], more: Iterable[TensorInfo]) -> None:
    for info in more:
        other = infos.get(info.name)
        if other is not None:
            raise InputError(
                f"{index}: tensor {info.name!r} is in two shards, {other.file.name} and {info.file.name}.",
                hint="Remove the shard that does not belong to the checkpoint and export it again.",
            )


def _check_listed(index: Path, weight_map: dict[str, str], infos: dict[str, TensorInfo]) -> None:
    for name, filename in weight_map.items():
        if name not in infos:
            raise InputError(
                f"{index} places tensor {name!r} in {filename}, which does not hold it.",
                hint="The index and the shards are of different exports: download or export them together.",
            )
        if infos[name].file.name != filename:
            raise InputError(
                f"{index} places tensor {name!r} in {filename}, but {infos[name].file.name} holds it.",
                hint="The index and the shards are of different exports: download or export them together.",
            )
