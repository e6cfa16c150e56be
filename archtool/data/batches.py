"""Batches of tensors in an order that depends on nothing but the data, the settings and the seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archtool.data.columns import Column
from archtool.data.dataset import Data
from archtool.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ORDERS = ("given", "length", "shuffled")


@dataclass(frozen=True)
class Batch:
    """``module(**batch.inputs)`` runs it; ``positions`` (B,) say which examples of the data these are.

    In training ``passes`` (B,) say for the how many-th time, from 0, each of them is seen.
    """

    inputs: "Mapping[str, Tensor]"
    targets: "Mapping[str, Tensor]"
    positions: "Tensor"
    passes: "Tensor | None" = None


@dataclass(frozen=True)
class Batches:
    """A re-iterable pass over data.

    Args:
        data: what to batch.
        batch_size: examples per batch; the last one may be smaller unless ``drop_last``.
        order: ``given``; ``length`` (longest first, so that little is padded and the largest batch comes
            first); or ``shuffled`` by (seed, epoch).
        seed: of the shuffle.
        epoch: which pass this is.
        drop_last: leave out an incomplete last batch.
        device: where the tensors are put.
    """

    data: Data
    batch_size: int = 32
    order: str = "given"
    seed: int = 0
    epoch: int = 0
    drop_last: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch size is {self.batch_size}", "give at least 1")
        if self.order not in ORDERS:
            raise UsageError(f"no batch order {self.order!r}", f"use one of {', '.join(ORDERS)}")

    def __len__(self) -> int:
        whole, rest = divmod(len(self.data), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Batch]:
        order = self.positions()
        for begin in range(0, len(self) * self.batch_size, self.batch_size):
            yield self.batch(order[begin : begin + self.batch_size])

    def positions(self) -> "NDArray[Any]":
        """All positions in the order of this pass."""
        import numpy as np

        if self.order == "shuffled":
            return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.data))
        if self.order == "length":
            return np.argsort(-self.data.lengths(), kind="stable")
        return np.arange(len(self.data))

    def batch(self, positions: "NDArray[Any]") -> Batch:
        """The batch of these positions."""
        import torch

        rows = self.data.rows[positions]
        tensors = {
            kind: {name: self._stack(name, column, rows).to(self.device) for name, column in columns.items()}
            for kind, columns in (("inputs", self.data.inputs), ("targets", self.data.targets))
        }
        return Batch(tensors["inputs"], tensors["targets"], torch.from_numpy(positions.copy()))

    def _stack(self, name: str, column: Column, rows: "NDArray[Any]") -> "Tensor":
        import numpy as np
        import torch

        arrays = column.take(rows)
        padding = self.data.padding
        if name not in padding.fill:
            return torch.from_numpy(np.stack(arrays))
        longest = max(max(len(array) for array in arrays), padding.length or 0)
        out = np.full((len(arrays), longest), padding.fill[name], dtype=arrays[0].dtype)
        for row, array in enumerate(arrays):
            place = slice(0, len(array)) if padding.side == "right" else slice(longest - len(array), None)
            out[row, place] = array
        return torch.from_numpy(out)
