"""A new file that two threads hash and write, chunk by chunk, while the next chunk is made.

Large files go past the page cache where the file system allows it: they should not push out the input, which may be
read again, and when the last byte is handed over hardly anything is left to be written back.
"""

import errno
import hashlib
import mmap
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

CHUNK_BYTES = 4 * 2**20
CHUNKS = 4
"""Chunks in memory: one is filled while the others are hashed and written."""
DIRECT_BYTES = 2**30
"""Files from this size on go past the page cache."""
_DIRECT = getattr(os, "O_DIRECT", 0)


@contextmanager
def hashed_file(path: Path, size_bytes: int) -> Iterator["HashedFile"]:
    """A file to write from its first byte to its last, replaced if it exists; ends in fsync.

    Args:
        size_bytes: how large it will be.
    """
    file = _open(path, direct=size_bytes >= DIRECT_BYTES)
    try:
        with ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(1) as writer:
            stream = HashedFile(file, hasher, writer)
            try:
                yield stream
            except BaseException:
                hasher.shutdown(cancel_futures=True)
                writer.shutdown(cancel_futures=True)
                raise
            stream.finish()
        os.fsync(file)
    finally:
        os.close(file)


class HashedFile:
    """Collects bytes in chunks, whose memory is used again once both threads are done with it."""

    def __init__(self, file: int, hasher: ThreadPoolExecutor, writer: ThreadPoolExecutor) -> None:
        self._file, self._hasher, self._writer = file, hasher, writer
        self._hash = hashlib.sha256()
        self._under_way: deque[tuple[mmap.mmap, Future[None], Future[None]]] = deque()
        self._chunk = mmap.mmap(-1, CHUNK_BYTES)
        self._filled = self._passed = 0

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of a file that is complete."""
        return self._hash.hexdigest()

    def write(self, data: memoryview) -> None:
        """Append bytes; they may be overwritten when this returns."""
        while len(data):
            count = min(len(data), CHUNK_BYTES - self._filled)
            self._chunk[self._filled : self._filled + count] = data[:count]
            self._filled, data = self._filled + count, data[count:]
            if self._filled == CHUNK_BYTES:
                self._pass_on()

    def finish(self) -> None:
        """Hash and write what is left."""
        while self._under_way:
            self._oldest()
        tail = memoryview(self._chunk)[: self._filled]
        self._hash.update(tail)
        _through_cache(self._file)
        _write_at(self._file, tail, self._passed)

    def _pass_on(self) -> None:
        hashed = self._hasher.submit(self._hash.update, self._chunk)
        written = self._writer.submit(_write_at, self._file, memoryview(self._chunk), self._passed)
        self._under_way.append((self._chunk, hashed, written))
        self._chunk = self._oldest() if len(self._under_way) == CHUNKS else mmap.mmap(-1, CHUNK_BYTES)
        self._filled, self._passed = 0, self._passed + CHUNK_BYTES

    def _oldest(self) -> mmap.mmap:
        """The chunk that was passed on first, when it is free again."""
        chunk, hashed, written = self._under_way.popleft()
        hashed.result()
        written.result()
        return chunk


def _open(path: Path, direct: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | (_DIRECT if direct else 0), 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL or not direct:
            raise
    return os.open(path, flags, 0o666)  # a file system without direct writes


def _through_cache(file: int) -> bool:
    """Write through the page cache from now on; whether that is a change."""
    import fcntl

    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~_DIRECT)
    return bool(flags & _DIRECT)


def _write_at(file: int, data: memoryview, offset: int) -> None:
    while len(data):
        try:
            count = os.pwrite(file, data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL or not _through_cache(file):
                raise
            continue
        data, offset = data[count:], offset + count
