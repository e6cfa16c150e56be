"""Streaming writers of safetensors files: the header is known up front, the data passes through once.

The caller writes inside `atomic_dir` or `atomic_file`; nothing here keeps more than one chunk.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archtool.checkpoint.atomic import guard_disk, require_free
from archtool.checkpoint.dtypes import DTYPE_RANK, data_bytes
from archtool.checkpoint.header import METADATA_KEY, Shard
from archtool.checkpoint.shards import INDEX_NAME, SAFETENSORS_NAME
from archtool.checkpoint.stream import HashedFile, hashed_file
from archtool.progress import SILENT, Phase, Progress

Produce = Callable[[str], Iterable[bytes | bytearray | memoryview]]
"""Gives the bytes of a tensor by name, in pieces of any size; a piece may be reused for the next one."""


@dataclass(frozen=True)
class TensorHeader:
    """Name, safetensors dtype and shape of a tensor to write."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return data_bytes(self.dtype, math.prod(self.shape))


@dataclass(frozen=True)
class WrittenFile:
    """Size and SHA-256 (hex) of a file as written."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardPlan:
    """A file to write: data in the order of ``headers`` with ``keep_order``, else in the library's."""

    filename: str
    headers: tuple[TensorHeader, ...]
    keep_order: bool = False

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes, without the file's header."""
        return sum(header.nbytes for header in self.headers)

    @property
    def ordered(self) -> Sequence[TensorHeader]:
        """The tensors in the order of their data."""
        return self.headers if self.keep_order else library_order(self.headers)


def library_order(headers: Iterable[TensorHeader]) -> list[TensorHeader]:
    """Headers in the order in which the safetensors library stores them: widest dtype first, then by name."""
    return sorted(headers, key=lambda header: (-DTYPE_RANK[header.dtype], header.name))


def encode_header(ordered: Sequence[TensorHeader], metadata: Mapping[str, str]) -> bytes:
    """The head of a safetensors file (length and padded JSON) for data stored in the order given."""
    table: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    position = 0
    for header in ordered:
        if header.name in table:
            raise ValueError(f"tensor {header.name!r} is given twice")
        stop = position + header.nbytes
        table[header.name] = {
            "dtype": header.dtype,
            "shape": list(header.shape),
            "data_offsets": [position, stop],
        }
        position = stop
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_safetensors(
    path: Path,
    tensors: Sequence[TensorHeader],
    produce: Produce,
    metadata: Mapping[str, str],
    order: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> WrittenFile:
    """Write one safetensors file as a stream, ending in fsync.

    Args:
        path: the file, replaced if it exists.
        tensors: what to write.
        produce: gives the bytes of each tensor; called once per tensor, in the order of the file.
        metadata: strings for the header, in this order where ``order`` is given, else sorted.
        order: names in the order of their data (an existing file's, to rewrite it byte for byte); names
            that are not in it follow in the library's order. None: the library's order.
        progress: told of the bytes written.

    Raises:
        ResourceError: no room, or the place cannot be written.
        RuntimeError: ``produce`` gave more or fewer bytes than the header says (a bug of the caller).
    """
    ordered = _ordered(tensors, order)
    head = encode_header(ordered, metadata if order is not None else dict(sorted(metadata.items())))
    size_bytes = len(head) + sum(header.nbytes for header in ordered)
    require_free(path, size_bytes)
    with (
        guard_disk(path, size_bytes),
        progress.phase(f"write {path.name}", size_bytes) as phase,
        hashed_file(path, size_bytes) as file,
    ):
        file.write(memoryview(head))
        for header in ordered:
            _write_tensor(file, header, produce(header.name), phase)
    return WrittenFile(size_bytes, file.digest)


def _ordered(tensors: Sequence[TensorHeader], order: Sequence[str] | None) -> list[TensorHeader]:
    ranks = {name: rank for rank, name in enumerate(order or ())}
    return sorted(library_order(tensors), key=lambda header: ranks.get(header.name, len(ranks)))


def _write_tensor(
    file: HashedFile, header: TensorHeader, pieces: Iterable[bytes | bytearray | memoryview], phase: Phase
) -> None:
    done = 0
    for piece in pieces:
        view = memoryview(piece).cast("B")
        done += len(view)
        if done > header.nbytes:
            break
        file.write(view)
        phase.advance(len(view), header.name)
    if done != header.nbytes:
        raise RuntimeError(f"tensor {header.name!r} must have {header.nbytes} bytes, but at least {done} were given")


def plan_shards(headers: Sequence[TensorHeader], max_bytes: int = 5_000_000_000) -> tuple[ShardPlan, ...]:
    """Split tensors, in the order given, into files of at most ``max_bytes`` of data.

    A larger tensor gets a file of its own. File names are those of `transformers`.
    """
    groups: list[list[TensorHeader]] = [[]]
    used_bytes = 0
    for header in headers:
        if groups[-1] and used_bytes + header.nbytes > max_bytes:
            groups.append([])
            used_bytes = 0
        groups[-1].append(header)
        used_bytes += header.nbytes
    if len(groups) == 1:
        return (ShardPlan(SAFETENSORS_NAME, tuple(groups[0])),)
    count = len(groups)
    return tuple(
        ShardPlan(f"model-{number:05d}-of-{count:05d}.safetensors", tuple(group))
        for number, group in enumerate(groups, start=1)
    )


def plan_like(shards: Sequence[Shard], headers: Sequence[TensorHeader]) -> tuple[ShardPlan, ...]:
    """The layout of a checkpoint that was read, if the names are the same; else a fresh `plan_shards`.

    Data keeps its order, so that unchanged tensors give unchanged files.
    """
    by_name = {header.name: header for header in headers}
    names = [name for shard in shards for name in shard.names]
    safetensors = all(shard.filename.endswith(".safetensors") for shard in shards)
    if not safetensors or sorted(names) != sorted(by_name):
        return plan_shards(headers)
    single = len(shards) == 1
    return tuple(
        ShardPlan(
            SAFETENSORS_NAME if single else shard.filename,
            tuple(by_name[name] for name in shard.names),
            keep_order=True,
        )
        for shard in shards
    )


def write_shards(
    folder: Path,
    shards: Sequence[ShardPlan],
    produce: Produce,
    metadata: Mapping[str, str],
    total_size: int | None = None,
    progress: Progress = SILENT,
    index_metadata: Mapping[str, Any] | None = None,
) -> dict[str, WrittenFile]:
    """Write the planned files into an existing folder, and the index if there are several.

    Args:
        folder: where to write.
        shards: from `plan_shards` or `plan_like`.
        produce: as for `write_safetensors`.
        metadata: strings for the header of every file.
        total_size: bytes of all data as the index states them; None: their sum.
        progress: told of the bytes written.
        index_metadata: the index's ``metadata`` as another checkpoint has it; its ``total_size`` wins.

    Returns:
        Every weight file by name (the index is not in it), as written.
    """
    stated = sum(shard.nbytes for shard in shards) if total_size is None else total_size
    require_free(folder, sum(shard.nbytes for shard in shards))
    written: dict[str, WrittenFile] = {}
    for shard in shards:
        order = [header.name for header in shard.headers] if shard.keep_order else None
        written[shard.filename] = write_safetensors(
            folder / shard.filename, shard.headers, produce, metadata, order=order, progress=progress
        )
    if len(shards) > 1:
        weight_map = {header.name: shard.filename for shard in shards for header in shard.headers}
        index = {"metadata": {"total_size": stated, **(index_metadata or {})}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        with guard_disk(folder / INDEX_NAME, len(text)):
            (folder / INDEX_NAME).write_text(text, encoding="utf-8")
    return written
