"""Output that appears whole or not at all, and disk errors told in words.

Work goes to a hidden sibling whose name carries the host and the process; it takes the target's name only
when complete. What a killed process left is removed by the next one that writes the same target.
"""

import errno
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archtool.errors import ResourceError, UsageError

_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this file system or process may write",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EEXIST: "a file is where a folder must be",
    errno.ENOTDIR: "a file is where a folder must be",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EIO: "the disk reports an error",
}
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _existing_parent(path: Path) -> Path:
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write at ``path`` or its nearest existing parent folder."""
    return shutil.disk_usage(_existing_parent(path)).free


def require_free(path: Path, nbytes: int) -> None:
    """Refuse with ResourceError to start writing ``nbytes`` where they cannot fit."""
    free = free_bytes(path)
    if free < nbytes:
        raise ResourceError(
            f"{path} needs {nbytes:,} bytes, but only {free:,} are free on that disk.",
            hint="Free some space or write to another disk.",
        )


@contextmanager
def guard_disk(path: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn the disk errors of the body (full, quota, too large, not writable) into ResourceError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CAUSES:
            raise
        needed = "" if needed_bytes is None else f"; it needs {needed_bytes:,} bytes, {free_bytes(path):,} are free"
        room = error.errno in _NO_ROOM
        raise ResourceError(
            f"{path} cannot be written: {_CAUSES[error.errno]}{needed}.",
            hint="Free some space, raise the limit (`ulimit -f`) or write to another disk."
            if room
            else "Write to a folder of your own, or change its name or permissions.",
        ) from error


@contextmanager
def atomic_dir(target: Path, force: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` if the body succeeds and vanishes if it does not.

    Args:
        target: the folder to make; its parents are made too.
        force: replace a folder that is not empty; the old one stays until the new one is complete.

    Raises:
        UsageError: ``target`` is not empty and ``force`` is not given, or holds the working folder.
        ResourceError: ``target`` is a file, or the place cannot be written.
    """
    place = Path(os.path.realpath(target))
    with guard_disk(target):
        _recover(place)
        _check_folder(target, place, force)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = _sibling(place, "tmp")
        temporary.mkdir()
    try:
        yield temporary
        with guard_disk(target):
            _fsync_tree(temporary)
            _check_folder(target, place, force)
            _swap(temporary, place)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A path to write, which becomes the file ``target`` if the body succeeds and vanishes if it does not.

    Raises:
        ResourceError: ``target`` is a folder, or the place cannot be written.
    """
    place = Path(os.path.realpath(target))
    if place.is_dir():
        raise ResourceError(f"{target} is a folder where a file must be.", hint="Give the path of a file.")
    with guard_disk(target):
        _recover(place)
        place.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(place, "tmp")
    try:
        yield temporary
        with guard_disk(target):
            _fsync(temporary)
            os.replace(temporary, place)
            _fsync(place.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_folder(target: Path, place: Path, force: bool) -> None:
    if not place.exists():
        return
    if not place.is_dir():
        raise ResourceError(f"{target} is a file where a folder must be.", hint="Give the path of a new folder.")
    if not any(place.iterdir()):
        return
    if not force:
        raise UsageError(f"{target} exists and is not empty.", hint="Give another folder, or --force to replace it.")
    for kept in (Path.cwd(), Path.home()):
        if kept.resolve().is_relative_to(place):
            raise UsageError(f"{target} holds {kept}, so it is not replaced.", hint="Give a new folder of its own.")


def _swap(temporary: Path, place: Path) -> None:
    """Give ``temporary`` the name ``place``; what was there is removed only afterwards."""
    old = _sibling(place, "old") if place.exists() else None
    if old is not None:
        os.rename(place, old)
    try:
        os.rename(temporary, place)
    except BaseException:
        if old is not None:
            os.rename(old, place)
        raise
    _fsync(place.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _sibling(place: Path, kind: str) -> Path:
    host = re.sub(r"[^\w-]", "-", platform.node())
    return place.with_name(f".{place.name}.{kind}-{host}-{os.getpid()}-{secrets.token_hex(3)}")


def _recover(place: Path) -> None:
    """Remove what dead processes of this host left beside ``place``; restore a folder they had moved away."""
    if not place.parent.is_dir():
        return
    host = re.sub(r"[^\w-]", "-", platform.node())
    pattern = re.compile(rf"\.{re.escape(place.name)}\.(tmp|old)-{re.escape(host)}-(\d+)-[0-9a-f]{{6}}")
    for left in sorted(place.parent.iterdir()):
        match = pattern.fullmatch(left.name)
        if match is None or _alive(int(match[2])):
            continue
        if match[1] == "old" and not place.exists():
            os.rename(left, place)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(fd)


def _fsync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            _fsync(Path(root) / name)
        _fsync(Path(root))
