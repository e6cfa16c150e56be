"""Writing a checkpoint: weights as a stream, in the layout they came in where names are unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from math import prod
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.atomic import guard_disk
from archtool.checkpoint.folder import copy_sidecars, read_json
from archtool.checkpoint.shards import INDEX_NAME
from archtool.checkpoint.writer import (
    ShardPlan,
    TensorHeader,
    WrittenFile,
    encode_header,
    plan_like,
    plan_shards,
    write_shards,
)  # fmt: skip
from archtool.families.registry import family_for, family_named
from archtool.ir.nesting_after import renamed_nesting
from archtool.model.ahead import InTurn, ahead, then
from archtool.model.checkpoint import Checkpoint, Source
from archtool.model.files import FileTensor, file_tensors
from archtool.model.layout import join
from archtool.model.lazy import Lazy, jobs, load
from archtool.model.load import ARCHITECTURE, NESTING, architecture_json, nesting_json
from archtool.model.strips import StripJob, strip
from archtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER = "tokenizer.bin"


def save(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    native: bool = True,
    finite: bool = True,
    progress: Progress = SILENT,
) -> dict[str, WrittenFile]:
    """Write a checkpoint into an existing folder.

    Args:
        config: contents of ``config.json``; None: the original one.
        native: also write ``architecture.json``, which `load` then trusts over ``config.json``.
        finite: refuse NaN and infinite values, by name.

    Returns:
        The weight files as written.
    """
    written = write_weights(checkpoint, folder, finite, progress)
    text = json.dumps(dict(checkpoint.source.config if config is None else config), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    if native:
        (folder / ARCHITECTURE).write_text(
            architecture_json(checkpoint.architecture, checkpoint.plan), encoding="utf-8"
        )
    _write_nesting(checkpoint, folder, None if native else json.loads(text))
    _write_sidecars(checkpoint.source, folder)
    return written


def _write_nesting(checkpoint: Checkpoint, folder: Path, config: Mapping[str, Any] | None) -> None:
    """``nesting.json`` under the block names that `load` will give: the architecture's, or those of ``config``."""
    nesting, arch = checkpoint.nesting, checkpoint.architecture
    if nesting is not None and config is not None:
        shapes = file_shapes(checkpoint)
        nesting = renamed_nesting(nesting, arch, family_for(config, shapes).read(config, shapes))
    if nesting is not None:
        (folder / NESTING).write_text(nesting_json(nesting), encoding="utf-8")


def _write_sidecars(source: Source, folder: Path) -> None:
    """The files that travel along; a scored-BPE file gets the name under which data loading finds it."""
    tokenizer = source.tokenizer
    for place in (source.folder, tokenizer):
        if place is not None and place.is_dir():
            copy_sidecars(place, folder)
    if tokenizer is not None and tokenizer.is_file():
        with guard_disk(folder / TOKENIZER):
            copyfile(tokenizer, folder / TOKENIZER)


def write_weights(
    checkpoint: Checkpoint, folder: Path, finite: bool = True, progress: Progress = SILENT
) -> dict[str, WrittenFile]:
    """Write only the weight files."""
    plans = _shards(checkpoint, _headers(checkpoint))
    tensors = {tensor.name: tensor for tensor in _tensors(checkpoint)}
    made = {h.name: _jobs(checkpoint, tensors, h.name, finite) for plan in plans for h in plan.ordered}
    index = _index_metadata(checkpoint, plans) if len(plans) > 1 else None
    tensors_needed = not all(isinstance(job, StripJob) for job in chain.from_iterable(made.values()))
    with closing(ahead(chain.from_iterable(made.values()), tensors=tensors_needed)) as ready:
        return write_shards(
            folder,
            plans,
            lambda name: islice(ready, len(made[name])),
            _metadata(checkpoint),
            progress=progress,
            index_metadata=index,
        )


def _index_metadata(checkpoint: Checkpoint, plans: Sequence[ShardPlan]) -> dict[str, Any]:
    """What the original index says beside its table; sums are made anew where the tensors are others."""
    folder = checkpoint.source.folder
    if folder is None or not (folder / INDEX_NAME).is_file():
        return {}
    kept = dict(read_json(folder / INDEX_NAME).get("metadata") or {})
    now = {header.name: header.shape for plan in plans for header in plan.headers}
    if now == _original_shapes(checkpoint):
        return kept
    sums = {"total_size": sum(plan.nbytes for plan in plans), "total_parameters": sum(map(prod, now.values()))}
    return {key: sums.get(key, value) for key, value in kept.items()}


def _original_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in the files that the checkpoint came from."""
    stores = (getattr(lazy, "store", None) for lazy in checkpoint.weights.values())
    infos: Mapping[str, Any] = next((store.infos for store in stores if store is not None), {})
    return {name: info.shape for name, info in infos.items()}


def planned_size(checkpoint: Checkpoint) -> int:
    """Bytes of the weight files that `write_weights` will write, headers included, to the byte."""
    plans = _shards(checkpoint, _headers(checkpoint))
    return sum(_planned_file(plan, _metadata(checkpoint)) for plan in plans)


def _planned_file(plan: ShardPlan, metadata: Mapping[str, str]) -> int:
    return len(encode_header(plan.ordered, metadata)) + plan.nbytes


def file_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the file's tensors."""
    shapes = {tensor.name: tensor.shape for tensor in _tensors(checkpoint)}
    return {**shapes, **{name: lazy.shape for name, lazy in checkpoint.source.carried.items()}}


def _tensors(checkpoint: Checkpoint) -> list[FileTensor]:
    arch = checkpoint.architecture
    return list(file_tensors(arch, checkpoint.plan, family_named(arch.family).names(arch)))


def _headers(checkpoint: Checkpoint) -> list[TensorHeader]:
    headers = [_header(checkpoint, tensor) for tensor in _tensors(checkpoint)]
    return headers + [TensorHeader(n, lazy.dtype, lazy.shape) for n, lazy in checkpoint.source.carried.items()]


def _metadata(checkpoint: Checkpoint) -> Mapping[str, str]:
    return checkpoint.source.shards[0].metadata if checkpoint.source.shards else {"format": "pt"}


def _shards(checkpoint: Checkpoint, headers: Sequence[TensorHeader]) -> tuple[ShardPlan, ...]:
    """The original layout; where the tensors are others, our order (integers before their scales)."""
    if checkpoint.plan.entries:
        return tuple(replace(plan, keep_order=True) for plan in plan_shards(headers))
    return plan_like(checkpoint.source.shards, headers)


def _header(checkpoint: Checkpoint, tensor: FileTensor) -> TensorHeader:
    return TensorHeader(tensor.name, checkpoint.weights[tensor.entry.pieces[0]].dtype, tensor.shape)


def _jobs(
    checkpoint: Checkpoint, tensors: Mapping[str, FileTensor], name: str, finite: bool
) -> Sequence[Callable[[], memoryview]]:
    """What makes the bytes of a tensor of the file, in blocks of rows where its layout allows it."""
    if name not in tensors:
        return _as_they_lie(checkpoint.source.carried[name], "")
    entry = tensors[name].entry
    pieces = [checkpoint.weights[leaf] for leaf in entry.pieces]
    checked = name if finite else ""
    if entry.transpose or entry.interleaved:
        return [then(InTurn(lambda: join(entry, [load(piece) for piece in pieces])), partial(_checked, name=checked))]
    return list(chain.from_iterable(_as_they_lie(piece, checked) for piece in pieces))


def _as_they_lie(lazy: Lazy, checked: str) -> Sequence[Callable[[], memoryview]]:
    """What makes the bytes of a tensor in its own layout; its values are checked where a name is given."""
    found = strip(lazy)
    return found.jobs(checked) if found else [then(job, partial(_checked, name=checked)) for job in jobs(lazy)]


def _checked(block: Tensor, name: str) -> memoryview:
    from archtool.checkpoint.values import check_finite

    if name:
        check_finite(block, name)
    return as_bytes(block)


def as_bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes, without a copy where it is contiguous."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")
