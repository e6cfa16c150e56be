"""Which examples a step sees: an endless stream of shuffled passes, addressed by number.

Example ``i`` of the stream stands at place ``i % N`` of the permutation of pass ``i // N``, which follows from
(seed, pass) alone. So any step can be fed without those before it, and a resumed run goes on exactly.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batch, Batches
from archtool.data.dataset import Data
from archtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CACHE_BYTES = 512_000_000


@dataclass
class Feed:
    """Batches by number.

    Args:
        data: what is fed.
        batch_size: examples per batch, over all processes.
        seed: of the order.
        rank: which of the processes this is; each takes its own part of every batch.
        processes: how many there are.
        device: where tensors are put.
    """

    data: Data
    batch_size: int
    seed: int
    rank: int = 0
    processes: int = 1
    device: str = "cpu"
    _passes: "dict[int, NDArray[Any]]" = field(default_factory=dict, repr=False)
    _whole: Batch | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size % self.processes:
            what = f"batches of {self.batch_size} examples cannot be split among {self.processes} processes"
            raise UsageError(what, "give a batch size that is a multiple of the number of processes")
        if len(self.data) == 0:
            raise InputError("the training data has no rows", "check --data and its split")
        if self._fits():
            import numpy as np

            self._whole = self._batches(0).batch(np.arange(len(self.data)))

    def batch(self, number: int) -> Batch:
        """This process' part of batch ``number`` (from 0)."""
        import torch

        passes, positions = self.places(number)
        return replace(self.take(positions), passes=torch.from_numpy(passes))

    def __len__(self) -> int:
        return len(self.data)

    def take(self, positions: "NDArray[Any]") -> Batch:
        """The examples at these positions of the data."""
        import torch

        if self._whole is None:
            return self._batches(0).batch(positions)
        rows = torch.from_numpy(positions)
        inputs, targets = ({k: v[rows] for k, v in part.items()} for part in (self._whole.inputs, self._whole.targets))
        return replace(self._whole, inputs=inputs, targets=targets, positions=rows)

    def places(self, number: int) -> "tuple[NDArray[Any], NDArray[Any]]":
        """This process' part of batch ``number``, consecutive places of the stream: their passes, their positions."""
        import numpy as np

        share = self.batch_size // self.processes
        begin = number * self.batch_size + self.rank * share
        places = np.arange(begin, begin + share)
        count = len(self.data)
        passes = places // count
        positions = [self._pass(int(p))[places[passes == p] % count] for p in range(passes[0], passes[-1] + 1)]
        return passes, np.concatenate(positions)

    def _pass(self, number: int) -> "NDArray[Any]":
        if number not in self._passes:
            for old in [p for p in self._passes if p < number - 1]:
                del self._passes[old]
            self._passes[number] = self._batches(number).positions()
        return self._passes[number]

    def _batches(self, number: int) -> Batches:
        return Batches(self.data, self.batch_size, order="shuffled", seed=self.seed, epoch=number, device=self.device)

    def _fits(self) -> bool:
        """Whether all examples have one shape and may stay in memory as tensors."""
        import numpy as np

        lengths = self.data.lengths()
        if lengths.min() != lengths.max():
            return False
        first = self._batches(0).batch(np.arange(1))
        each = sum(_nbytes(tensor) for part in (first.inputs, first.targets) for tensor in part.values())
        return each * len(self.data) <= CACHE_BYTES


def _nbytes(tensor: "Tensor") -> int:
    return tensor.numel() * tensor.element_size()
