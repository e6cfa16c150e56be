"""Working ahead: blocks are read and made by a few threads while the one before is consumed.

Reading and tensor operations release the interpreter's lock, so that small blocks on plain threads keep all cores
busy. Parallelism within an operation is switched off meanwhile: on blocks that fit into a cache it costs more than
it gives, and on a shared machine waiting threads would burn what others need.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

T = TypeVar("T")

WORKERS = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def ahead(jobs: Iterable[Callable[[], T]], workers: int = WORKERS) -> Iterator[T]:
    """The results of jobs in order; at most two per worker are finished or under way before they are asked for."""
    pending: deque[Future[T]] = deque()
    with one_thread_per_operation() as limit, ThreadPoolExecutor(workers, initializer=limit) as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(job))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


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
