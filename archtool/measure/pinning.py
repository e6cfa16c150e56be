"""Thread counts and cores, set for a while and put back."""

import contextlib
import gc
import os
from collections.abc import Collection, Iterator

from archtool.errors import UsageError


@contextlib.contextmanager
def pinned(threads: int, cores: Collection[int] | None = None) -> Iterator[None]:
    """Run torch with ``threads`` threads and, if given, this thread on ``cores`` only; restore both.

    Worker threads that torch or a runtime started before keep the cores they had, so give ``cores`` before
    preparing a session.

    Raises:
        UsageError: no threads, or cores that this process may not use.
    """
    import torch

    if threads < 1:
        raise UsageError(f"{threads} threads: at least 1 is needed")
    before, had_cores = torch.get_num_threads(), _set_cores(cores)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _set_cores(had_cores)


def _set_cores(cores: Collection[int] | None) -> set[int] | None:
    """Bind this thread; returns the cores it had, or None where nothing was asked."""
    if cores is None:
        return None
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system cannot bind a process to cores", hint="leave the cores out")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        raise UsageError(f"cores {sorted(cores)} are not usable; this process has {sorted(before)}") from error
    return before


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the collector off, so that it does not fall into a timed call."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
