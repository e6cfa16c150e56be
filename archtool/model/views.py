"""Sub-networks of a module without another module: the same skeleton on views of the parent's tensors.

    small = views(model, {"b0.ffn.hidden": Selection("b0.ffn.hidden", tuple(range(64)))})
    outputs = run(model, small, input_ids=ids)          # gradients flow to the parent's parameters

A range of indices is a view (no copy); other indices are a differentiable gather. Modules read their sizes from their
tensors, so nothing else changes; `model.apply` with the same selections gives the same network as a checkpoint.

A nested model is run at many of its submodels, so those are compiled: `Family` finds once where each tensor stands and
what each size cuts of it, a `Member` of it puts views in place and takes them out again:

    family = Family(model, nesting)
    with family.member(uniform(nesting, 0)).running():  # gradients go to the parent's, without a copy of it
        model(input_ids=ids)["logits"].sum().backward()
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archtool.ir.axes import Dim, Selection, Selections
from archtool.ir.edit import Drop, Edit, indices, select, steps
from archtool.ir.nesting import Nesting, Submodel, check_nesting, check_submodel
from archtool.ir.table import claims
from archtool.model.pick import Index, index_of

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture
    from archtool.model.build import Model

Cut = tuple[int, Index]
"""A dimension, and what stays of it."""


def views(model: Model, selections: Selections) -> dict[str, Tensor]:
    """Name → tensor of the sub-network, for every tensor that a selection touches.

    Raises:
        RefusedEdit: the axis table does not allow the selections.
    """
    arch = model.architecture
    select(arch, selections)
    made: dict[tuple[int, object], Tensor] = {}
    found: dict[str, Tensor] = {}
    for slot in slots(model):
        picks = tuple(indices(d, arch, selections) for d in slot.dims)
        if all(p is None for p in picks):
            continue
        key = (id(slot.tensor), tuple(None if p is None else tuple(p) for p in picks))
        if key not in made:
            made[key] = _cut(slot.tensor, [(i, index_of(p)) for i, p in enumerate(picks) if p is not None])
        found[slot.name] = made[key]
    return found


def run(model: Model, tensors: Mapping[str, Tensor], **inputs: Any) -> dict[str, Tensor]:
    """Outputs of the sub-network."""
    from torch.func import functional_call

    return functional_call(model, dict(tensors), kwargs=inputs, tie_weights=False)


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a tensor stands in the module, and how it lies in memory; on another device another one stands there."""

    name: str
    dims: tuple[Dim, ...]
    table: dict[str, Any]
    key: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    trained: bool

    @property
    def tensor(self) -> Tensor:
        """The tensor that stands there now."""
        found: Tensor = self.table[self.key]
        return found


def slots(model: Model) -> list[Slot]:
    """The place of every tensor of the axis table, once."""
    found: dict[str, Slot] = {}
    for claim in claims(model.architecture):
        path, _, key = claim.name.rpartition(".")
        if claim.name not in found and (table := _table(model, path, key)) is not None:
            found[claim.name] = _slot(claim.name, claim.spec.dims, table, key)
    return list(found.values())


def _slot(name: str, dims: tuple[Dim, ...], table: dict[str, Any], key: str) -> Slot:
    tensor = table[key]
    where = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
    return Slot(name, dims, table, key, *where, tensor.requires_grad)


def _table(model: Model, path: str, key: str) -> dict[str, Any] | None:
    """Who holds a tensor; None where the module has it not (an encoded weight, a constant that it computes)."""
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return None
    tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    return next((table for table in tables if table.get(key) is not None), None)


class Family:
    """The submodels of a nested module, compiled: everything that does not depend on the submodel is found once.

    Args:
        model: the module; its parameters are updated in place and not replaced while the family is in use.
        nesting: which submodels there are; what its cuts ask of the architecture is checked here, once.

    Raises:
        InputError: the architecture is not nested so.
    """

    def __init__(self, model: Model, nesting: Nesting) -> None:
        check_nesting(nesting, model.architecture)
        self.model, self.nesting = model, nesting
        self._arch, self._sites = model.architecture, model.sites
        self._touched = [(slot, dims) for slot in slots(model) if (dims := self._nested(slot))]
        self._cuts: dict[tuple[Dim, tuple[int, ...]], Index | None] = {}
        self._graphs: dict[tuple[str, ...], tuple[Architecture, Mapping[str, Any]]] = {(): (self._arch, self._sites)}

    def _nested(self, slot: Slot) -> list[tuple[int, Dim, tuple[str, ...]]]:
        """The nested dimensions of a tensor: where, which, and their nested axes."""
        found = enumerate(slot.dims)
        axes = ((i, d, tuple(dict.fromkeys(a for a in d.axes() if a in self.nesting.sizes))) for i, d in found)
        return [item for item in axes if item[2]]

    def member(self, submodel: Submodel) -> Member:
        """The sub-network of a submodel, ready to run; `InputError` where it is not of the family."""
        check_submodel(self.nesting, submodel, self._arch)
        counts = dict(submodel.counts)
        pieces: list[Piece] = []
        for slot, dims in self._touched:
            made = [(i, index) for i, d, axes in dims if (index := self._index(d, axes, counts)) is not None]
            if made and slot.name.partition(".")[0] not in submodel.skipped:
                pieces.append(_piece(slot, made))
        return Member(self.model, pieces, self._graph(submodel.skipped), (self._arch, self._sites))

    def _index(self, dimension: Dim, axes: tuple[str, ...], counts: Mapping[str, int]) -> Index | None:
        """What stays of a dimension; None: all of it."""
        key = (dimension, tuple(counts[axis] for axis in axes))
        if key not in self._cuts:
            cut = {a: Selection(a, tuple(range(counts[a]))) for a in axes if counts[a] < self._arch.size[a]}
            picks = indices(dimension, self._arch, cut)
            self._cuts[key] = None if picks is None else index_of(picks)
        return self._cuts[key]

    def _graph(self, skipped: tuple[str, ...]) -> tuple[Architecture, Mapping[str, Any]]:
        """The architecture without some blocks, and where its layers stand."""
        if skipped not in self._graphs:
            arch = steps(self._arch, Edit("skip", tuple(map(Drop, skipped))))[-1].after
            self._graphs[skipped] = arch, {place.key: place.site for place in arch.places}
        return self._graphs[skipped]


@dataclass(frozen=True, eq=False)
class Piece:
    """What a submodel has in place of a tensor: a view (size, stride and offset in its memory), or a gather."""

    slot: Slot
    cuts: Sequence[Cut]
    view: tuple[Sequence[int], Sequence[int], int] | None

    def take(self, tensor: Tensor) -> Tensor:
        """The piece of a tensor, with gradients to it."""
        return _cut(tensor, self.cuts)

    def leaf(self, tensor: Tensor) -> Tensor:
        """The piece as a leaf whose gradient is a view of the tensor's own. Call it without gradients."""
        import torch

        assert self.view is not None
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
        leaf = tensor.as_strided(*self.view).requires_grad_()
        alike = tensor.grad.stride() == tensor.stride()
        leaf.grad = tensor.grad.as_strided(*self.view) if alike else _cut(tensor.grad, self.cuts)
        return leaf


def _piece(slot: Slot, cuts: Sequence[Cut]) -> Piece:
    """A piece of a tensor; one that is no range, or takes no gradient, has no view."""
    size, offset = list(slot.size), slot.offset
    for axis, index in cuts:
        if not isinstance(index, slice):
            return Piece(slot, cuts, None)
        size[axis] = index.stop - index.start
        offset += index.start * slot.stride[axis]
    return Piece(slot, cuts, (size, slot.stride, offset) if slot.trained else None)


@dataclass(frozen=True, eq=False)
class Member:
    """One submodel of a module, as what is put in place of its tensors and its graph; ``parent``: those, meanwhile."""

    model: Model
    pieces: Sequence[Piece]
    graph: tuple[Architecture, Mapping[str, Any]]
    whole: tuple[Architecture, Mapping[str, Any]]
    parent: list[Tensor] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Model]:
        """The module is the submodel inside; also backward passes belong there.

        Where gradients are taken, a view is a leaf whose gradient is a view of the parent's, so that it is added where
        it belongs and nothing of the parent's size is made.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
            try:
                self.enter()
                yield self.model
            finally:
                self.leave()

    def enter(self) -> None:
        """Put the submodel in place."""
        import torch

        learning = torch.is_grad_enabled()
        assert not self.parent, "the submodel is in place already"
        self.model.architecture, self.model.sites = self.graph  # type: ignore[assignment]
        self.parent.extend(piece.slot.tensor for piece in self.pieces)
        both = list(zip(self.pieces, self.parent, strict=True))
        with torch.no_grad():
            for piece, tensor in both if learning else ():
                if piece.view is not None:
                    piece.slot.table[piece.slot.key] = piece.leaf(tensor)
        for piece, tensor in both:
            if piece.view is None or not learning:
                piece.slot.table[piece.slot.key] = piece.take(tensor)

    def leave(self) -> None:
        """Put the whole model back."""
        for piece, tensor in zip(self.pieces, self.parent, strict=False):
            piece.slot.table[piece.slot.key] = tensor
        self.parent.clear()
        self.model.architecture, self.model.sites = self.whole  # type: ignore[assignment]


def _cut(tensor: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """What stays of a tensor: a view where it is a range, else a differentiable gather."""
    for axis, index in cuts:
        if isinstance(index, slice):
            tensor = tensor.narrow(axis, index.start, index.stop - index.start)
        else:
            tensor = tensor.index_select(axis, index.to(tensor.device))
    return tensor
