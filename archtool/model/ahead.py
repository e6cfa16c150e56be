"""Working ahead: blocks are read and made by a few threads while those before them are consumed.

Reading and tensor operations release the interpreter's lock, so that small blocks on plain threads keep all cores
busy. Parallelism within an operation is switched off meanwhile: on blocks that fit into a cache it costs more than
it gives, and on a shared machine waiting threads would burn what others need.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")

WORKERS = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
KEPT_BYTES = 31 * 2**20


@dataclass(frozen=True)
class InTurn(Generic[T]):
    """A job that is done when its result is asked for: it is large, or needs that all before it are consumed."""

    make: Callable[[], T]

    def __call__(self) -> T:
        """Do it."""
        return self.make()


def then(job: Callable[[], Any], more: Callable[[Any], T]) -> Callable[[], T]:
    """The job followed by something that is done to its result, on the same thread."""

    def both() -> T:
        return more(job())

    return InTurn(both) if isinstance(job, InTurn) else both


def ahead(jobs: Iterable[Callable[[], T]], workers: int = WORKERS, *, tensors: bool = True) -> Generator[T, None, None]:
    """The results of jobs in order; at most two per worker are finished or under way before they are asked for.

    ``tensors``: whether they compute with torch, which is loaded for them.
    """
    pending: deque[Callable[[], T]] = deque()
    with (
        one_thread_per_operation() if tensors else nullcontext(None) as limit,
        ThreadPoolExecutor(workers, initializer=limit) as pool,
    ):
        keep_freed_memory()
        try:
            for job in jobs:
                pending.append(job if isinstance(job, InTurn) else pool.submit(job).result)
                if len(pending) > 2 * workers:
                    yield pending.popleft()()
            while pending:
                yield pending.popleft()()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread_per_operation() -> Iterator[Callable[[], None]]:
    """Operations run on the thread that calls them; other threads call what is given, as OpenMP asks each one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield partial(torch.set_num_threads, 1)
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Have the process keep the memory of blocks for the next ones.

    The GNU library maps what is larger than a threshold anew each time, and the system then clears every page: half
    the time of a pass. Freeing something once (it is never touched) raises the threshold to its size.
    """
    import numpy as np

    np.empty(KEPT_BYTES, dtype=np.uint8)
