"""Statistics on disk, a file per hash of weights, data and settings, so that a new budget needs no new pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.atomic import atomic_file, guard_disk
from archtool.curvature.moments import Moments

if TYPE_CHECKING:
    from archtool.model.build import Model

FIELDS = ("squares_SU", "terms_S", "batches_U", "cross_UU")


def key_of(model: Model, data_digest: str, settings: Mapping[str, Any]) -> str:
    """The hash of everything that decides the statistics."""
    import torch

    digest = hashlib.sha256(json.dumps([data_digest, settings], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def read(folder: Path, key: str) -> dict[str, Moments] | None:
    """The statistics of a key by axis, or None; a damaged file counts as none."""
    import numpy as np
    import torch

    path = folder / f"{key}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            stored = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError):
        return None
    axes = dict.fromkeys(name.rpartition("/")[0] for name in stored)
    return {axis: Moments(*(stored.get(f"{axis}/{field}") for field in FIELDS)) for axis in axes}  # type: ignore[arg-type]


def write(folder: Path, key: str, found: Mapping[str, Moments]) -> None:
    """Keep statistics under a key."""
    import numpy as np

    arrays = {
        f"{axis}/{field}": getattr(moments, field).numpy()
        for axis, moments in found.items() for field in FIELDS if getattr(moments, field) is not None
    }  # fmt: skip
    with guard_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / f"{key}.npz") as path, path.open("wb") as file:
            np.savez(file, **arrays)
