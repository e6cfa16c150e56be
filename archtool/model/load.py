"""Loading a checkpoint: folder, file or hub id → `Checkpoint`, without reading a single weight.

Every tensor in the files is claimed exactly once, or loading stops with the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from archtool.checkpoint.folder import read_config, read_json, resolve
from archtool.checkpoint.store import TensorStore, open_store
from archtool.errors import InputError
from archtool.families.base import Family
from archtool.families.registry import family_for, family_named
from archtool.ir.architecture import Architecture
from archtool.ir.codec import from_json, to_json
from archtool.ir.encodings import EncodingPlan
from archtool.ir.nesting import Nesting, check_nesting
from archtool.ir.parts import Kind
from archtool.ir.table import stored
from archtool.ir.validate import validate
from archtool.model.checkpoint import Checkpoint, Source
from archtool.model.files import FileTensor, file_tensors
from archtool.model.lazy import Filed, Lazy
from archtool.operators.registry import operator_class

ARCHITECTURE = "architecture.json"
NESTING = "nesting.json"
WEIGHTS = ("F64", "F32", "F16", "BF16")
"""What a weight that no encoding describes may be stored as."""


def load(path: str | Path, allow_config: Sequence[str] = ()) -> Checkpoint:
    """Open a model folder, a hub id, or a weight file beside its ``config.json``.

    Args:
        path: where the model is.
        allow_config: configuration keys to ignore although no family knows them.

    Raises:
        InputError: unknown architecture or feature, or files that do not hold exactly its tensors.
    """
    place = resolve(str(path))
    folder = place if place.is_dir() else place.parent
    store = open_store(place)
    config = {k: v for k, v in read_config(folder).items() if k not in allow_config}
    shapes = {name: info.shape for name, info in store.infos.items()}
    if (folder / ARCHITECTURE).exists():
        arch, plan = read_architecture(folder / ARCHITECTURE)
        family = family_named(arch.family)
    else:
        family = family_for(config, shapes)
        arch, plan = family.read(config, shapes), EncodingPlan()
    return bind(store, arch, plan, family, Source(folder, config, store.shards))


def read_architecture(path: Path) -> tuple[Architecture, EncodingPlan]:
    """The architecture and plan of an ``architecture.json``."""
    data = read_json(path)
    arch = from_json(Architecture, data.get("architecture"), operator_class, "architecture")
    plan = from_json(EncodingPlan, data.get("plan", {}), operator_class, "plan")
    validate(arch)
    return arch, plan


def architecture_json(arch: Architecture, plan: EncodingPlan) -> str:
    """The text of an ``architecture.json``."""
    return json.dumps({"format": 1, "architecture": to_json(arch), "plan": to_json(plan)}, indent=1) + "\n"


def read_nesting(folder: Path | None, arch: Architecture) -> Nesting | None:
    """What ``nesting.json`` in a model's folder says; None where there is none, `InputError` where it is wrong."""
    if folder is None or not (folder / NESTING).exists():
        return None
    stated = {key: value for key, value in read_json(folder / NESTING).items() if key != "format"}
    nesting = from_json(Nesting, stated, operator_class, "nesting")
    check_nesting(nesting, arch)
    return nesting


def nesting_json(nesting: Nesting) -> str:
    """The text of a ``nesting.json``."""
    return json.dumps({"format": 1, **to_json(nesting)}, indent=1) + "\n"


def bind(
    store: TensorStore, arch: Architecture, plan: EncodingPlan, family: Family, source: Source,
    entries: Sequence[Any] | None = None,
) -> Checkpoint:  # fmt: skip
    """Connect an architecture to the tensors of a file through the family's name table (or ``entries``)."""
    validate(arch)
    tensors = list(file_tensors(arch, plan, family.names(arch) if entries is None else entries))
    _check_claims(store, tensors, family)
    trained = {name for name, spec in stored(arch).items() if spec.kind is Kind.PARAMETER}
    weights: dict[str, Lazy] = {}
    for tensor in tensors:
        _check_tensor(store, tensor, source.config, trained)
        _check_copies(store, tensor, weights)
        weights.update(_pieces(store, tensor))
    claimed = {tensor.name for tensor in tensors}
    carried = {n: _verbatim(store, n) for n in store.infos if n not in claimed}
    return Checkpoint(arch, plan, weights, replace(source, carried=carried), read_nesting(source.folder, arch))


def _pieces(store: TensorStore, tensor: FileTensor) -> dict[str, Lazy]:
    first = 0
    pieces: dict[str, Lazy] = {}
    for i, (leaf, shape) in enumerate(zip(tensor.entry.pieces, tensor.shapes, strict=True)):
        pieces[leaf] = Filed(store, tensor.entry, i, first, shape)
        first += shape[0] if shape else 1
    return pieces


def _verbatim(store: TensorStore, name: str) -> Filed:
    from archtool.families.names import entry

    return Filed(store, entry(name, name), 0, 0, store.infos[name].shape)


def _check_claims(store: TensorStore, tensors: Sequence[FileTensor], family: Family) -> None:
    claimed = {tensor.name for tensor in tensors}
    missing = sorted(claimed - set(store.infos))
    extra = sorted(name for name in store.infos if name not in claimed and not family.carried(name))
    if not missing and not extra:
        return
    what = []
    if missing:
        near = get_close_matches(missing[0], extra, 1)
        like = f" (there is {near[0]!r})" if near else ""
        what.append(f"{len(missing)} tensors are missing: {_some(missing)}{like}")
    if extra:
        what.append(f"{len(extra)} tensors belong to nothing: {_some(extra)}")
    where = store.shards[0].filename if store.shards else "the checkpoint"
    raise InputError(
        f"{where} does not hold exactly the tensors of this {family.name} model: {'; '.join(what)}",
        "Check that config.json belongs to these weights; a name table (--names) maps other names.",
    )


def _check_copies(store: TensorStore, tensor: FileTensor, weights: Mapping[str, Lazy]) -> None:
    """A tensor that a file stores twice (a tied head beside its table) must hold the same bytes twice."""
    first = next((weights[leaf] for leaf in tensor.entry.pieces if leaf in weights), None)
    if not isinstance(first, Filed):
        return
    mine, other = store.infos[tensor.name], store.infos[first.entry.file]
    same = (mine.dtype, mine.shape) == (other.dtype, other.shape)
    if not same or any(a != b for a, b in zip(store.chunks(mine.name), store.chunks(other.name), strict=True)):
        raise InputError(
            f"{mine.name} and {other.name} in {mine.file.name} are one tensor in this model, but they differ",
            "If they are meant to differ, set tie_word_embeddings to false; else remove the one that is wrong.",
        )


def _check_tensor(store: TensorStore, tensor: FileTensor, config: Mapping[str, Any], trained: set[str]) -> None:
    info = store.infos[tensor.name]
    if info.shape != tensor.shape:
        raise InputError(
            f"{tensor.name} in {info.file.name} has shape {list(info.shape)}; the configuration says "
            f"{list(tensor.shape)}{_sayers(config, set(tensor.shape) - set(info.shape))}",
            "Correct the configuration, or the tensor.",
        )
    if trained.issuperset(tensor.entry.pieces) and info.dtype not in WEIGHTS:
        raise InputError(
            f"{tensor.name} in {info.file.name} is stored as {info.dtype}; weights are {', '.join(WEIGHTS)}",
            "Convert it to one of these in the tool that made it (an encoded weight with its scales applied).",
        )
    if tensor.dtype and info.dtype != tensor.dtype:
        raise InputError(f"{tensor.name} is {info.dtype}, its encoding needs {tensor.dtype}", "Export it again.")


def _sayers(config: Mapping[str, Any], sizes: set[int]) -> str:
    """The configuration's keys that say one of these sizes."""
    keys = [f"{k}: {v}" for k, v in config.items() if isinstance(v, int) and v in sizes and not isinstance(v, bool)]
    return f" ({', '.join(keys)})" if keys else ""


def _some(names: Sequence[str], limit: int = 6) -> str:
    more = f", … ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
