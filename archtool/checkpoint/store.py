"""A lazy table of the tensors of a checkpoint, whatever files hold them.

Opening lists names, dtypes and shapes only. Data is read by position straight into the buffer that is
handed out; nothing is memory-mapped, because mapped pages count as memory of the process.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archtool.checkpoint.dtypes import torch_dtype
from archtool.checkpoint.header import Shard, TensorInfo, open_raw
from archtool.errors import InputError
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

__all__ = ["Shard", "TensorInfo", "TensorStore", "open_store"]

CHUNK_BYTES = 8 * 2**20
SKIPPED_BYTES = 4096
"""From this many unwanted bytes per row on, rows are read one by one: less is read, for a system call each."""


class TensorStore:
    """The tensors of a checkpoint by name.

    Args:
        infos: every tensor, in the order of files and of data within a file.
        shards: the files, with their tensors and metadata.
        resident: bytes of the tensors that no single range of a file holds (pickled views only).
    """

    def __init__(
        self,
        infos: Sequence[TensorInfo],
        shards: Sequence[Shard],
        resident: Mapping[str, bytes] | None = None,
    ) -> None:
        self.infos: Mapping[str, TensorInfo] = {info.name: info for info in infos}
        self.shards = tuple(shards)
        self._resident = resident or {}

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The tensor as stored, or the ``rows`` of its first dimension, in memory of its own.

        Raises:
            InputError: the file can no longer be read, or torch has no such dtype.
            KeyError, ValueError: no such tensor, or rows that are not contiguous.
        """
        import torch

        info = self.infos[name]
        first, shape = _row_range(info, rows)
        dtype = torch_dtype(info.dtype)
        buffer = torch.empty(_row_bytes(info, shape), dtype=torch.uint8)
        self._fill(info, first, memoryview(buffer.numpy().data))
        return buffer.view(dtype).reshape(shape)

    def read_bytes(self, name: str, rows: slice | None = None) -> bytearray:
        """The bytes of a tensor, or of the ``rows`` of its first dimension, as they lie in the file."""
        info = self.infos[name]
        first, shape = _row_range(info, rows)
        buffer = bytearray(_row_bytes(info, shape))
        self._fill(info, first, memoryview(buffer))
        return buffer

    def read_block(self, name: str, rows: slice, columns: slice) -> memoryview:
        """The bytes ``columns`` of each of some rows, one row after another; what lies between is skipped."""
        import numpy as np

        info = self.infos[name]
        first, shape = _row_range(info, rows)
        per_row = _row_bytes(info, shape) // max(1, shape[0])
        start, stop, _ = columns.indices(per_row)
        block_RB = np.empty((shape[0], stop - start), dtype=np.uint8)
        if stop - start == per_row:
            self._fill(info, first, memoryview(block_RB.data).cast("B"))
        elif per_row - (stop - start) < SKIPPED_BYTES or info.name in self._resident:
            whole_RB = np.empty((shape[0], per_row), dtype=np.uint8)
            self._fill(info, first, memoryview(whole_RB.data).cast("B"))
            block_RB[:] = whole_RB[:, start:stop]
        else:
            pread_rows(info.file, info.start + first + start, per_row, block_RB.data)
        return memoryview(block_RB.data).cast("B")

    def read_into(self, name: str, buffer: memoryview, offset: int = 0) -> None:
        """Fill a writable, contiguous ``buffer`` from byte ``offset`` of a tensor's data."""
        info = self.infos[name]
        view = buffer.cast("B")
        if offset < 0 or offset + len(view) > info.nbytes:
            raise ValueError(f"bytes {offset} to {offset + len(view)} are not within {name!r} ({info.nbytes} bytes)")
        self._fill(info, offset, view)

    def chunks(self, name: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The bytes of a tensor in pieces; each piece is overwritten when the next one is asked for."""
        nbytes = self.infos[name].nbytes
        buffer = memoryview(bytearray(min(chunk_bytes, nbytes)))
        for offset in range(0, nbytes, chunk_bytes):
            piece = buffer[: min(chunk_bytes, nbytes - offset)]
            self.read_into(name, piece, offset)
            yield piece

    def digest(self, progress: Progress = SILENT) -> str:
        """SHA-256 over name, dtype, shape and bytes of all tensors by name: the same for any sharding."""
        total = hashlib.sha256()
        with progress.phase("hash", sum(info.nbytes for info in self.infos.values())) as phase:
            for name in sorted(self.infos):
                info = self.infos[name]
                total.update(json.dumps([name, info.dtype, info.shape, info.nbytes]).encode())
                for piece in self.chunks(name):
                    total.update(piece)
                    phase.advance(len(piece), name)
        return total.hexdigest()

    def _fill(self, info: TensorInfo, offset: int, buffer: memoryview) -> None:
        held = self._resident.get(info.name)
        if held is not None:
            buffer[:] = held[offset : offset + len(buffer)]
        elif len(buffer):
            pread_into(info.file, info.start + offset, buffer)


def pread_into(path: Path, position: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from byte ``position`` of a file; raises InputError where the file ends early."""
    with open_raw(path) as fd:
        _pread(fd, path, position, buffer)


def pread_rows(path: Path, position: int, stride: int, buffer: memoryview) -> None:
    """Fill the rows of ``buffer`` (R, B) from places of a file that lie ``stride`` bytes apart."""
    with open_raw(path) as fd:
        flat, per_row = buffer.cast("B"), buffer.shape[1] if buffer.shape else 0
        for row in range(len(buffer)):
            _pread(fd, path, position + row * stride, flat[row * per_row : (row + 1) * per_row])


def _pread(fd: int, path: Path, position: int, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        try:
            got = os.preadv(fd, [buffer[done:] if done else buffer], position + done)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Check the disk.") from error
        if got == 0:
            raise InputError(
                f"{path} became shorter while it was read: byte {position + done} is missing.",
                hint="Keep the checkpoint unchanged while archtool works on it.",
            )
        done += got


def _row_range(info: TensorInfo, rows: slice | None) -> tuple[int, tuple[int, ...]]:
    """Byte offset of the first of ``rows`` within the tensor, and the shape that they have."""
    if rows is None:
        return 0, info.shape
    if not info.shape:
        raise ValueError(f"{info.name!r} is a scalar: it has no rows")
    first, stop, step = rows.indices(info.shape[0])
    if step != 1:
        raise ValueError(f"rows of {info.name!r} must be contiguous, got a step of {step}")
    per_row = info.nbytes // info.shape[0] if info.shape[0] else 0
    return first * per_row, (max(0, stop - first), *info.shape[1:])


def _row_bytes(info: TensorInfo, shape: tuple[int, ...]) -> int:
    return info.nbytes * math.prod(shape) // info.numel if info.numel else 0


def open_store(path: Path) -> TensorStore:
    """List the tensors of a checkpoint: a weight file, an index file or a model folder.

    In a folder the first of these counts: ``model.safetensors``, ``model.safetensors.index.json``, the only
    ``*.safetensors``, ``pytorch_model.bin``, ``pytorch_model.bin.index.json``.

    Raises:
        InputError: no weights there, or a file that is damaged, inconsistent or runs code.
    """
    from archtool.checkpoint.shards import find_weights, open_file, open_index

    found = find_weights(Path(path))
    if found.name.endswith(".index.json"):
        infos, shards, resident = open_index(found)
    else:
        infos, shards, resident = open_file(found)
    return TensorStore(infos, shards, resident)
