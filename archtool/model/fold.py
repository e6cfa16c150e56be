"""The values of linear layers that take a norm: computed in float64 when they are read, kept in the stored dtype.

A norm maps each channel to ``gain * x + shift``. Before it, ``gain * (W x + b) + shift`` scales the rows; after it,
``W (gain * x + shift) + b`` scales the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from archtool.ir.edit import RefusedEdit, Step
from archtool.ir.encodings import Dense
from archtool.ir.fold import Folding
from archtool.ir.table import shape, stored
from archtool.model.checkpoint import Checkpoint
from archtool.model.lazy import Lazy, load

if TYPE_CHECKING:
    from torch import Tensor


class Affine:
    """A norm as a gain and a shift per channel, in float64; read once."""

    def __init__(self, checkpoint: Checkpoint, folding: Folding) -> None:
        self.folding = folding
        prefix = f"{folding.name}."
        self.tensors = {n.removeprefix(prefix): t for n, t in checkpoint.weights.items() if n.startswith(prefix)}

    def _leaf(self, name: str, missing: float) -> Tensor:
        import torch

        if name in self.tensors:
            return load(self.tensors[name]).double()
        return torch.full(self.tensors["weight"].shape, missing, dtype=torch.float64)

    @cached_property
    def gain(self) -> Tensor:
        """The factor of each channel."""
        import torch

        norm = self.folding.norm
        gain = self._leaf("weight", 1.0) + norm.offset
        return gain * torch.rsqrt(self._leaf("running_var", 1.0) + norm.eps) if norm.kind == "batch" else gain

    @cached_property
    def shift(self) -> Tensor:
        """What is added to each channel."""
        bias = self._leaf("bias", 0.0)
        return bias - self._leaf("running_mean", 0.0) * self.gain if self.folding.norm.kind == "batch" else bias


@dataclass(frozen=True)
class FoldedWeight:
    """A weight whose rows, or columns, take the gain."""

    base: Lazy
    affine: Affine

    @property
    def shape(self) -> tuple[int, ...]:
        """The base's."""
        return self.base.shape

    @property
    def dtype(self) -> str:
        """The base's."""
        return self.base.dtype

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows of the product."""
        rows, gain = self.base.rows(start, stop), self.affine.gain
        gain = gain if self.affine.folding.follows else gain[start:stop, None]
        return (rows.double() * gain.reshape(*gain.shape, *(1,) * (rows.dim() - 2))).to(rows.dtype)


@dataclass(frozen=True)
class FoldedBias:
    """A bias (or none) with the shift."""

    weight: Lazy
    base: Lazy | None
    affine: Affine

    @property
    def shape(self) -> tuple[int, ...]:
        """One number per row of the weight."""
        return self.weight.shape[:1]

    @property
    def dtype(self) -> str:
        """The base's, or the weight's."""
        return (self.base or self.weight).dtype

    def rows(self, start: int, stop: int) -> Tensor:
        """Entries of the new bias."""
        from archtool.model.codec import DTYPES

        bias = self.base.rows(start, stop).double() if self.base else 0.0
        if self.affine.folding.follows:
            made = bias + self.weight.rows(start, stop).flatten(1).double() @ self.affine.shift
        else:
            made = bias * self.affine.gain[start:stop] + self.affine.shift[start:stop]
        return made.to(DTYPES[self.dtype])


@dataclass(frozen=True)
class Filled:
    """A tensor of one number: biases that come with another, the gain and bias that a norm keeps."""

    shape: tuple[int, ...]
    dtype: str
    value: float

    def rows(self, start: int, stop: int) -> Tensor:
        """Some entries."""
        import torch

        from archtool.model.codec import DTYPES

        return torch.full((stop - start, *self.shape[1:]), self.value, dtype=DTYPES[self.dtype])


def folded_weights(checkpoint: Checkpoint, step: Step) -> dict[str, Lazy]:
    """The tensors that a folding changes or makes.

    Raises:
        RefusedEdit: a weight is stored as integers.
    """
    folding, weights = step.folding, checkpoint.weights
    assert folding is not None
    affine, before, after = Affine(checkpoint, folding), stored(step.before), stored(step.after)
    found: dict[str, Lazy] = {}
    for prefix in folding.into:
        weight, bias = f"{prefix}.weight", f"{prefix}.bias"
        if not isinstance(checkpoint.plan.of(weight), Dense):
            raise RefusedEdit(f"{weight} is stored as integers", "Fold before quantizing, or start from dense weights.")
        found[weight] = FoldedWeight(weights[weight], affine)
        if bias in after:
            found[bias] = FoldedBias(weights[weight], weights.get(bias), affine)
    dtype = weights[f"{folding.into[0]}.weight"].dtype
    for storage in after:
        if storage in found:
            continue
        if storage.startswith(f"{folding.name}."):
            left = 1.0 - folding.norm.offset if storage.endswith(".weight") else 0.0
            found[storage] = Filled(shape(after[storage], step.after), weights[storage].dtype, left)
        elif storage not in before:
            found[storage] = Filled(shape(after[storage], step.after), dtype, 0.0)
    return found
