"""Making a step depend on nothing but its seed: random numbers, kernels, threads. All is put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def mixed_seed(*parts: int) -> int:
    """One seed below 2^63 from several numbers, such as (seed, step, process)."""
    import numpy as np

    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(device: "torch.device", seed: int) -> Iterator[None]:
    """The global generators (dropout has no other) hold ``seed`` inside and their old state afterwards."""
    import torch

    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic kernels where there are any (others warn)."""
    import torch

    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags: Any = torch.utils.deterministic  # a module whose attributes are made at run time
    fill = flags.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    flags.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        flags.fill_uninitialized_memory = fill


@contextmanager
def computing_with(threads: int | None) -> Iterator[int]:
    """Compute with so many threads (None: as it is); gives the number. Sums depend on it."""
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
