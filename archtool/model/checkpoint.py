"""`Checkpoint`: architecture, encoding plan and lazy weights, with what else travels with a model.

Weights are keyed by leaf names: ``"b0.attn.q.weight"`` for a dense tensor, ``"b0.attn.q.weight_q"`` and
``"…_scale"`` for an encoded one. Nothing is read until it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.header import Shard
from archtool.ir.architecture import Architecture
from archtool.ir.encodings import Dense, Encoding, EncodingPlan, Leaf
from archtool.ir.nesting import Nesting
from archtool.ir.table import shape, stored
from archtool.model.lazy import Decoded, EncodedLeaf, Lazy, Leaves, Picked, load

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.model.build import Model


@dataclass(frozen=True)
class Source:
    """Where a checkpoint came from.

    Attributes:
        folder: the folder whose tokenizer and other files travel along, or None.
        config: the original configuration.
        shards: the original files and their tensors, to write the same layout again.
        carried: file tensors that are kept verbatim, by name.
        ignored: file tensors that the user's name table leaves out.
        tokenizer: a tokenizer (a scored-BPE file or a folder) that a name table names; it travels along.
    """

    folder: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    carried: Mapping[str, Lazy] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    tokenizer: Path | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model: what it is, how its numbers are stored, and the numbers; ``nesting``: which parts are models too."""

    architecture: Architecture
    plan: EncodingPlan
    weights: Mapping[str, Lazy]
    source: Source = field(default_factory=Source)
    nesting: Nesting | None = None

    def tensor(self, storage: str) -> Lazy:
        """A tensor by storage id, decoded to dense if it is encoded."""
        encoding = self.plan.of(storage)
        if isinstance(encoding, Dense):
            return self.weights[storage]
        spec = stored(self.architecture)[storage]
        leaves = tuple((leaf.name, self.weights[leaf_name(storage, leaf)]) for leaf in self._leaves(storage, encoding))
        return Decoded(encoding, leaves, shape(spec, self.architecture))

    def _leaves(self, storage: str, encoding: Encoding) -> tuple[Leaf, ...]:
        return encoding.leaves(shape(stored(self.architecture)[storage], self.architecture))

    def module(self, dtype: str = "fp32") -> Model:
        """A module with the weights, in evaluation mode; encoded tensors stay encoded."""
        from archtool.model.build import Model, with_values

        def value(name: str) -> Tensor:
            tensor = load(self.weights[name])
            return tensor.to(_compute_dtype(dtype)) if tensor.is_floating_point() and not _is_leaf(name) else tensor

        return with_values(Model(self.architecture, self.plan), value).eval()


def _is_leaf(name: str) -> bool:
    return name.endswith(("_scale", "_zero", "_q"))


def _compute_dtype(dtype: str) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}[dtype]


def leaf_name(storage: str, leaf: Leaf) -> str:
    """Full name of a leaf; ``"q"`` of ``"x.weight"`` is ``"x.weight_q"``."""
    return f"{storage}_{leaf.name}" if leaf.name else storage


def leaf_shapes(arch: Architecture, plan: EncodingPlan) -> dict[str, tuple[int, ...]]:
    """Leaf name → shape, for every tensor that the checkpoint stores."""
    shapes: dict[str, tuple[int, ...]] = {}
    for storage, spec in stored(arch).items():
        for leaf in plan.of(storage).leaves(shape(spec, arch)):
            shapes[leaf_name(storage, leaf)] = leaf.shape
    return shapes


def encoded_weights(storage: str, base: Lazy, encoding: Encoding) -> dict[str, Lazy]:
    """The leaves of a dense tensor under an encoding, as lazy tensors."""
    leaves = Leaves(base, encoding)
    return {
        leaf_name(storage, leaf): EncodedLeaf(leaves, leaf.name, leaf.shape, leaf.dtype)
        for leaf in encoding.leaves(base.shape)
    }


def picked(base: Lazy, picks: tuple[Any, ...]) -> Lazy:
    """A selection of a lazy tensor; the tensor itself where nothing is selected."""
    return Picked(base, picks) if any(p is not None for p in picks) else base


def from_module(checkpoint: Checkpoint, module: Model) -> Checkpoint:
    """The checkpoint with the module's present values (after training)."""
    from archtool.model.lazy import Held

    values = dict(module.named_parameters()) | dict(module.named_buffers())
    weights = {name: Held(values[name].detach().contiguous()) for name in checkpoint.weights}
    return replace(checkpoint, weights=weights)


def of_module(module: Model, source: Source | None = None) -> Checkpoint:
    """A checkpoint of a freshly built module."""
    from archtool.model.lazy import Held

    values = dict(module.named_parameters()) | dict(module.named_buffers())
    names = leaf_shapes(module.architecture, module.plan)
    weights = {name: Held(values[name].detach()) for name in names}
    return Checkpoint(module.architecture, module.plan, weights, source or Source())
