"""A checkpoint's files seen under a family's own names, whatever the files call their tensors and lay them out.

A `RenamedStore` is a `TensorStore` whose tensors are parts of another store's. A part that is a range of its file
tensor is read in place, row by row; one that is transposed or reordered is made in memory, the last one kept, so
that reading it block by block makes it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from archtool.checkpoint.dtypes import data_bytes
from archtool.checkpoint.header import TensorInfo
from archtool.checkpoint.store import TensorStore
from archtool.families.user_names import Step, contiguous

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class View:
    """A tensor of the family in a file tensor.

    Attributes:
        file: name of the file tensor.
        steps: from the file tensor to the family's.
        shape: of the family's tensor.
        dtype: the family's tensor gets this dtype; empty: the file's.
    """

    file: str
    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    dtype: str = ""


@dataclass(frozen=True)
class _Source:
    """A range of a file tensor, and what is still to be done with it."""

    file: str
    offset_bytes: int
    shape: tuple[int, ...]
    dtype: str
    steps: tuple[Step, ...]


class RenamedStore(TensorStore):
    """The tensors of ``inner`` under the names of ``views``."""

    def __init__(self, inner: TensorStore, views: Mapping[str, View]) -> None:
        super().__init__([_info(inner, name, view) for name, view in views.items()], inner.shards)
        self._inner = inner
        self._sources = {name: _source(inner, view) for name, view in views.items()}
        self._last: tuple[str, memoryview] = ("", memoryview(b""))

    def _fill(self, info: TensorInfo, offset: int, buffer: memoryview) -> None:
        source = self._sources[info.name]
        if source.steps or source.dtype != info.dtype:
            buffer[:] = self._made(info, source)[offset : offset + len(buffer)]
        elif len(buffer):
            self._inner.read_into(source.file, buffer, source.offset_bytes + offset)

    def _made(self, info: TensorInfo, source: _Source) -> memoryview:
        import torch

        from archtool.checkpoint.dtypes import torch_dtype

        name, made = self._last
        if name != info.name:
            raw = torch.empty(data_bytes(source.dtype, prod(source.shape)), dtype=torch.uint8)
            self._inner.read_into(source.file, memoryview(raw.numpy().data), source.offset_bytes)
            tensor = apply_steps(raw.view(torch_dtype(source.dtype)).reshape(source.shape), source.steps)
            flat = tensor.to(torch_dtype(info.dtype)).contiguous().reshape(-1)
            made = memoryview(flat.view(torch.uint8).numpy().data)
            self._last = (info.name, made)
        return made


def _info(inner: TensorStore, name: str, view: View) -> TensorInfo:
    info = inner.infos[view.file]
    dtype = view.dtype or info.dtype
    return TensorInfo(name, dtype, view.shape, info.file, 0, data_bytes(dtype, prod(view.shape)))


def _source(inner: TensorStore, view: View) -> _Source:
    info = inner.infos[view.file]
    skipped, shape, steps = contiguous(list(view.steps), info.shape)
    return _Source(view.file, data_bytes(info.dtype, skipped), shape, info.dtype, tuple(steps))


def apply_steps(tensor: Tensor, steps: Sequence[Step]) -> Tensor:
    """The family's tensor from a file tensor."""
    for step in steps:
        match step.kind, step.numbers:
            case "squeeze", (count,):
                tensor = tensor.reshape(tensor.shape[count:])
            case "index", (index,):
                tensor = tensor[index]
            case "rows", (first, stop):
                tensor = tensor[first:stop]
            case "transpose", _:
                tensor = tensor.T
            case "rotary", (head, outer, inner):
                tensor = _reordered(tensor, head, outer, inner)
            case "columns", (outer, inner):
                tensor = tensor.unflatten(1, (outer, inner)).transpose(1, 2).flatten(1)
    return tensor


def _reordered(tensor: Tensor, head: int, outer: int, inner: int) -> Tensor:
    """The first ``outer * inner`` rows of each head from (outer, inner) to (inner, outer)."""
    import torch

    heads = tensor.unflatten(0, (-1, head))
    turned, plain = heads.split([outer * inner, head - outer * inner], dim=1)
    turned = turned.unflatten(1, (outer, inner)).transpose(1, 2).flatten(1, 2)
    return torch.cat((turned, plain), dim=1).flatten(0, 1)


def promoted(views: Mapping[str, View], store: TensorStore, groups: Sequence[Sequence[str]]) -> dict[str, View]:
    """Views of one dtype within each group: the widest that the files hold (their tensors are saved together)."""
    found = dict(views)
    for group in groups:
        dtypes = {store.infos[views[name].file].dtype for name in group}
        if len(dtypes) > 1:
            found.update({name: replace(views[name], dtype=_widest(dtypes)) for name in group})
    return found


def _widest(dtypes: Iterable[str]) -> str:
    """The safetensors dtype that holds the values of all."""
    from functools import reduce

    import torch

    from archtool.checkpoint.dtypes import safetensors_dtype, torch_dtype

    return safetensors_dtype(reduce(torch.promote_types, map(torch_dtype, dtypes)))
