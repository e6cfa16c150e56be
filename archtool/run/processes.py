"""The processes of one run under `torchrun`: one writes and speaks, the others train along.

Steps that spread their work (``Step.distributed``) run in all of them; any other step runs in the main process while
the others wait, and what it gave is read from the main process' run directory.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from archtool.errors import ArchtoolError

PATIENCE = timedelta(days=7)
"""How long a process waits for the others; a step of the main process may take any time."""


class Left(ArchtoolError):
    """The main process ended before the others; what went wrong is said there."""


def count() -> int:
    """How many processes there are (1 without `torchrun`)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes and speaks."""
    return count() == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def together(device: str) -> Iterator[None]:
    """The processes are connected inside; a no-op for a single one.

    All wait for each other at the end, so that everything is written when the connection is taken down.
    """
    if count() == 1:
        yield
        return
    import torch.distributed
    from accelerate import PartialState

    PartialState(cpu=device == "cpu", timeout=PATIENCE)
    yield
    wait()
    torch.distributed.destroy_process_group()


def tell(value: Any) -> Any:
    """What the main process says, in every process."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    said = [value]
    try:
        broadcast_object_list(said, from_process=0)
    except RuntimeError as problem:
        raise Left(f"the main process ended: {problem}") from problem
    return said[0]


def wait() -> None:
    """Wait until all processes are here."""
    if count() == 1:
        return
    import torch.distributed

    try:
        torch.distributed.barrier()
    except RuntimeError as problem:
        raise Left(f"another process ended: {problem}") from problem
