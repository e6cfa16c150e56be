"""The header of a safetensors file, read and checked without touching its data.

A file is: 8 bytes (little-endian header length), the JSON header, then the tensors' bytes without holes.
Everything that a wrong file can say is refused here, so that later reads need no checks.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archtool.checkpoint.dtypes import DTYPE_BITS, data_bits, data_bytes
from archtool.errors import InputError

MAX_HEADER_BYTES = 100_000_000
METADATA_KEY = "__metadata__"
_LFS_MAGIC = b"version https://git-lfs"
_RELOAD = "The file is damaged or was not fully copied: download or export it again."


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: bytes ``start`` to ``stop`` (absolute, exclusive) of ``file``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return self.stop - self.start

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Shard:
    """One file of a checkpoint: its tensors in the order of their data, and its metadata strings."""

    filename: str
    names: tuple[str, ...]
    metadata: dict[str, str]


def unique_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dict, for ``object_pairs_hook``; raises ValueError for a key given twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is given twice")
        found[key] = value
    return found


@contextmanager
def open_raw(path: Path) -> Iterator[int]:
    """A file descriptor for reading; an unreadable file raises InputError that names it."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", hint="Check the path and its permissions."
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


def check_payload(path: Path, head: bytes) -> None:
    """Refuse a file that is empty or that only points to data kept elsewhere; ``head`` is its first bytes."""
    if not head:
        raise InputError(f"{path} is empty (0 bytes).", hint=_RELOAD)
    if head.startswith(_LFS_MAGIC):
        raise InputError(
            f"{path} is a git-LFS pointer, not the weights themselves.",
            hint="Run `git lfs pull` in that repository, or download the file itself.",
        )


def read_header(path: Path) -> tuple[tuple[TensorInfo, ...], dict[str, str]]:
    """The tensors of a safetensors file in the order of their data, and its metadata.

    Raises:
        InputError: the file is not a whole, consistent safetensors file.
    """
    with open_raw(path) as fd:
        try:
            size_bytes = os.fstat(fd).st_size
            head = os.pread(fd, max(8, len(_LFS_MAGIC)), 0)
            check_payload(path, head)
            length = _header_length(path, head[:8], size_bytes)
            text = os.pread(fd, length, 8)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Give a regular file.") from error
    table = _parse_json(path, text)
    metadata = _metadata(path, table.pop(METADATA_KEY, None))
    infos = [_tensor_info(path, name, entry, 8 + length, size_bytes) for name, entry in table.items()]
    ordered = tuple(sorted(infos, key=lambda info: (info.start, info.stop)))
    _check_layout(path, ordered, 8 + length, size_bytes)
    return ordered, metadata


def _header_length(path: Path, head: bytes, size_bytes: int) -> int:
    if len(head) < 8:
        raise InputError(f"{path} is truncated: {size_bytes} bytes hold no safetensors header.", hint=_RELOAD)
    length = int.from_bytes(head, "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(
            f"{path} is not a safetensors file: its header length reads {length} bytes, "
            f"above the format's limit of {MAX_HEADER_BYTES}.",
            hint="Give a file in safetensors format; a PyTorch pickle must end in .bin, .pt or .pth.",
        )
    if 8 + length > size_bytes:
        raise InputError(
            f"{path} is truncated: its header needs {8 + length} bytes, the file has {size_bytes}.",
            hint=_RELOAD,
        )
    return length


def _parse_json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=unique_object)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has a header that is not valid JSON: {error}.", hint=_RELOAD) from error
    if not isinstance(table, dict):
        raise InputError(f"{path} has a header that is not a JSON object.", hint=_RELOAD)
    return table


def _metadata(path: Path, entry: Any) -> dict[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise InputError(f"{path} has a {METADATA_KEY} that does not map strings to strings.", hint=_RELOAD)
    return dict(entry)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _tensor_info(path: Path, name: str, entry: Any, data_start: int, size_bytes: int) -> TensorInfo:
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise InputError(
            f"{path}: tensor {name!r} has the unknown dtype {dtype!r}.",
            hint=f"The dtypes of the format are {', '.join(DTYPE_BITS)}.",
        )
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise InputError(f"{path}: tensor {name!r} has the invalid shape {shape!r}.", hint=_RELOAD)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise InputError(f"{path}: tensor {name!r} has the invalid data_offsets {offsets!r}.", hint=_RELOAD)
    info = TensorInfo(name, dtype, tuple(shape), path, data_start + offsets[0], data_start + offsets[1])
    _check_range(info, size_bytes)
    return info


def _check_range(info: TensorInfo, size_bytes: int) -> None:
    if info.stop < info.start:
        raise InputError(f"{info.file}: tensor {info.name!r} ends before it starts.", hint=_RELOAD)
    if info.stop > size_bytes:
        raise InputError(
            f"{info.file} is truncated: tensor {info.name!r} ends at byte {info.stop}, the file has {size_bytes}.",
            hint=_RELOAD,
        )
    if data_bits(info.dtype, info.numel) % 8 or data_bytes(info.dtype, info.numel) != info.nbytes:
        raise InputError(
            f"{info.file}: tensor {info.name!r} takes {info.nbytes} bytes, but {info.dtype} of shape "
            f"{list(info.shape)} takes {data_bytes(info.dtype, info.numel)}.",
            hint=_RELOAD,
        )


def _check_layout(path: Path, ordered: Sequence[TensorInfo], data_start: int, size_bytes: int) -> None:
    """The tensors must cover the data exactly: no overlap, no hole, nothing left at the end."""
    position = data_start
    for info in ordered:
        if info.start != position:
            fact = "overlaps the tensor before it" if info.start < position else "leaves a hole before it"
            raise InputError(
                f"{path}: tensor {info.name!r} {fact} (byte {info.start}, expected {position}).", hint=_RELOAD
            )
        position = info.stop
    if position != size_bytes:
        raise InputError(f"{path} has {size_bytes - position} bytes after its last tensor.", hint=_RELOAD)
