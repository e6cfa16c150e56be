"""What a killed training run continues from: one file, written whole or not at all."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.atomic import atomic_file
from archtool.data.dataset import Data
from archtool.errors import UsageError
from archtool.train.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

FILE = "train-state.pt"


@dataclass(frozen=True)
class TrainState:
    """A training run after ``step`` steps.

    Attributes:
        step: finished optimizer steps; with the settings it gives the place in the data and in the schedule.
        elapsed_s: seconds trained so far, over all processes of the run.
        modules: the ``state_dict`` of what is trained: the model, and what the objective trains along.
        optimizers: theirs, by name.
        validation: of `archtool.train.validate`.
    """

    step: int
    elapsed_s: float
    modules: Mapping[str, Mapping[str, Any]]
    optimizers: Mapping[str, Mapping[str, Any]]
    validation: Mapping[str, Any]


def identity(module: "nn.Module", data: Data, settings: TrainSettings, objective: Any, augment: Any) -> str:
    """A hash of what must be the same for a state to be continued."""
    shapes = {name: list(p.shape) for name, p in module.named_parameters()}
    stated = {
        "settings": settings.identity(),
        "data": [data.spec.to_json(), len(data)],
        "shapes": shapes,
        "objective": getattr(objective, "identity", ""),
        "augment": repr(augment),
    }
    return hashlib.sha256(json.dumps(stated, sort_keys=True, default=str).encode()).hexdigest()


def save_state(folder: Path, state: TrainState, key: str) -> None:
    """Replace the state in ``folder``; a crash leaves the old one."""
    import torch

    fields = {name: getattr(state, name) for name in ("step", "elapsed_s", "modules", "optimizers", "validation")}
    with atomic_file(folder / FILE) as path:
        torch.save({**fields, "key": key}, path)


def load_state(folder: Path, key: str) -> TrainState | None:
    """The state in ``folder``, or None; `UsageError` where it belongs to another training run."""
    import torch

    path = folder / FILE
    if not path.exists():
        return None
    found = torch.load(path, map_location="cpu", weights_only=True)
    if found.pop("key") != key:
        raise UsageError(f"{path} is the state of another training run", "give another folder, or delete the file")
    return TrainState(**found)
