"""Files that two threads hash and write: the same bytes past the page cache and through it, errors in words."""

import errno
import hashlib
import os
import random

import pytest

from archtool.checkpoint import stream
from archtool.checkpoint.stream import hashed_file
from archtool.checkpoint.writer import TensorHeader, write_safetensors
from archtool.errors import ResourceError

CHUNK = 8192
DIRECT = getattr(os, "O_DIRECT", 0)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_BYTES", CHUNK)


def is_direct(file):
    import fcntl

    return bool(fcntl.fcntl(file, fcntl.F_GETFL) & DIRECT)


def watched(monkeypatch, before):
    """Call something before each write at a position."""
    real = os.pwrite

    def pwrite(file, data, offset):
        before(file, offset)
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


def write_pieces(path, data):
    """In pieces of all sizes, each in the memory of the one before."""
    sizes, at = random.Random(0), 0
    buffer = bytearray(3 * CHUNK)
    with hashed_file(path, len(data)) as file:
        while at < len(data):
            piece = data[at : at + sizes.randrange(3 * CHUNK)]
            buffer[: len(piece)] = piece
            file.write(memoryview(buffer)[: len(piece)])
            at += len(piece)
    return file.digest


@pytest.mark.parametrize("size", [0, 8, CHUNK - 1, CHUNK, 4 * CHUNK, 40 * CHUNK + 17])
@pytest.mark.parametrize("direct_bytes", [0, 2**40])
def test_bytes_and_hash_are_those_that_were_given(tmp_path, monkeypatch, small_chunks, size, direct_bytes):
    monkeypatch.setattr(stream, "DIRECT_BYTES", direct_bytes)
    data, path = random.Random(1).randbytes(size), tmp_path / "f"
    path.write_bytes(b"x" * (size + 5000))
    assert write_pieces(path, data) == hashlib.sha256(data).hexdigest()
    assert path.read_bytes() == data


@pytest.mark.skipif(not DIRECT, reason="the system has no direct writes")
def test_large_files_go_past_the_page_cache_up_to_their_last_bytes(tmp_path, monkeypatch, small_chunks):
    probe = stream._open(tmp_path / "probe", direct=True)
    if not is_direct(probe):
        pytest.skip("the file system has no direct writes")
    os.close(probe)
    seen = []
    watched(monkeypatch, lambda file, offset: seen.append((offset, is_direct(file))))
    for direct_bytes in (3 * CHUNK, 2**40):
        monkeypatch.setattr(stream, "DIRECT_BYTES", direct_bytes)
        write_pieces(tmp_path / "f", bytes(3 * CHUNK + 5))
    offsets = [0, CHUNK, 2 * CHUNK, 3 * CHUNK]
    assert seen == [*zip(offsets, [True, True, True, False], strict=True), *((offset, False) for offset in offsets)]


@pytest.mark.parametrize("opens", [True, False])
def test_a_file_system_that_refuses_direct_writes_gets_ordinary_ones(tmp_path, monkeypatch, small_chunks, opens):
    monkeypatch.setattr(stream, "DIRECT_BYTES", 0)
    refused, real = [], os.open

    def refuse(flags):
        if flags & DIRECT:
            refused.append(flags)
            raise OSError(errno.EINVAL, "refused")

    if opens:
        watched(monkeypatch, lambda file, offset: refuse(DIRECT if is_direct(file) else 0))
    else:
        monkeypatch.setattr(os, "open", lambda path, flags, *more: (refuse(flags), real(path, flags, *more))[1])
    data = random.Random(2).randbytes(5 * CHUNK + 3)
    assert write_pieces(tmp_path / "f", data) == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "f").read_bytes() == data and bool(refused) == bool(DIRECT)


@pytest.mark.parametrize("offset", [0, 3 * CHUNK, 16 * CHUNK])
def test_a_disk_that_fills_up_stops_the_writing(tmp_path, monkeypatch, small_chunks, offset):
    """At once, in the middle, and with the last piece."""

    def fill(file, at):
        if at >= offset:
            raise OSError(errno.ENOSPC, "full")

    watched(monkeypatch, fill)
    header = TensorHeader("w", "U8", (16 * CHUNK,))
    given = []

    def produce(name):
        for _ in range(16):
            given.append(CHUNK)
            yield bytes(CHUNK)

    with pytest.raises(ResourceError, match="the disk is full"):
        write_safetensors(tmp_path / "x.safetensors", [header], produce, {})
    assert sum(given) <= offset + (stream.CHUNKS + 1) * CHUNK


def test_an_error_of_the_caller_ends_both_threads(tmp_path, small_chunks):
    import threading

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), hashed_file(tmp_path / "f", 10 * CHUNK) as file:
        file.write(memoryview(bytes(2 * CHUNK)))
        raise KeyboardInterrupt
    assert threading.active_count() == before
