"""Sub-networks of a module without another module: the same skeleton on views of the parent's tensors.

    small = views(model, {"b0.ffn.hidden": Selection("b0.ffn.hidden", tuple(range(64)))})
    outputs = run(model, small, input_ids=ids)          # gradients flow to the parent's parameters

A range of indices is a view (no copy); other indices are a differentiable gather. Modules read their sizes from their
tensors, so nothing else changes; `model.apply` with the same selections gives the same network as a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archtool.ir.edit import indices, select
from archtool.ir.table import claims
from archtool.model.pick import index_of

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.axes import Selections
    from archtool.model.build import Model


def views(model: Model, selections: Selections) -> dict[str, Tensor]:
    """Name → tensor of the sub-network, for every tensor that a selection touches.

    Raises:
        RefusedEdit: the axis table does not allow the selections.
    """
    arch = model.architecture
    select(arch, selections)
    buffers = dict(model.named_buffers(remove_duplicate=False))
    tensors = dict(model.named_parameters(remove_duplicate=False)) | buffers
    made: dict[tuple[int, object], Tensor] = {}
    found: dict[str, Tensor] = {}
    for claim in claims(arch):
        picks = tuple(indices(d, arch, selections) for d in claim.spec.dims)
        if claim.name not in tensors or all(p is None for p in picks):
            continue
        tensor = tensors[claim.name]
        key = (id(tensor), tuple(None if p is None else tuple(p) for p in picks))
        if key not in made:
            made[key] = _view(tensor, picks)
        found[claim.name] = made[key]
    return found


def run(model: Model, tensors: Mapping[str, Tensor], **inputs: Any) -> dict[str, Tensor]:
    """Outputs of the sub-network."""
    from torch.func import functional_call

    return functional_call(model, dict(tensors), kwargs=inputs, tie_weights=False)


def _view(tensor: Tensor, picks: Sequence[Sequence[int] | None]) -> Tensor:
    for axis, chosen in enumerate(picks):
        if chosen is None:
            continue
        index = index_of(chosen)
        if isinstance(index, slice):
            tensor = tensor.narrow(axis, index.start, index.stop - index.start)
        else:
            tensor = tensor.index_select(axis, index.to(tensor.device))
    return tensor
