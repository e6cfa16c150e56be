"""Modules that no family describes: what a function ``build`` in a user's Python file returns.

A pruned one is a folder with the tensors that are left, what changed, and a small loader that needs no archtool.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.checkpoint.folder import read_json
from archtool.errors import InputError
from archtool.model.load_pruned import load_pruned, tensors
from archtool.model.user_code import beside, load_function, told

if TYPE_CHECKING:
    from torch import Tensor, nn

FACTS, WEIGHTS, LOADER = "pruned.json", "model.safetensors", "load_pruned.py"
FORM = "write FILE.py:FUNCTION, with FUNCTION() -> torch.nn.Module"


@dataclass(frozen=True)
class Foreign:
    """A module by the function that builds it.

    Attributes:
        build: ``FILE.py:FUNCTION``.
        folder: where the tensors of its pruned form are; None: as built.
        held: the pruned module itself with its facts and example inputs, before it is written.
    """

    build: str
    folder: Path | None = None
    held: tuple[nn.Module, Mapping[str, Any], Mapping[str, Tensor]] | None = None

    def module(self) -> nn.Module:
        """The module in evaluation mode, in fp32 or what ``build`` chose; not shared with anybody.

        Raises:
            InputError: the function fails, or returns no module.
        """
        import copy

        import torch

        if self.held is not None:
            return copy.deepcopy(self.held[0])
        path, function = load_function(self.build, "module", FORM)
        with beside(path), told(path, "module"):
            made = function() if self.folder is None else load_pruned(function, self.folder)
        if not isinstance(made, torch.nn.Module):
            raise InputError(f"{self.build} returned {type(made).__name__}, not a torch.nn.Module", FORM)
        return made.eval()

    def facts(self) -> Mapping[str, Any]:
        """What ``pruned.json`` says; of a module as built, that nothing changed."""
        if self.held is not None:
            return self.held[1]
        return read_json(self.folder / FACTS) if self.folder else {"attributes": {}, "tied": [], "removed": []}


def is_pruned_folder(path: str | Path) -> bool:
    """Whether a folder holds a pruned module."""
    return (Path(path) / FACTS).is_file()


def open_folder(folder: Path) -> Foreign:
    """The pruned module of a folder."""
    return Foreign(str(read_json(folder / FACTS)["build"]), folder)


def save_foreign(foreign: Foreign, folder: Path) -> str:
    """Write the folder of a pruned module; the hash of its tensors."""
    import hashlib

    folder.mkdir(parents=True)
    content = serialised(foreign.module())
    (folder / WEIGHTS).write_bytes(content)
    facts = {"build": foreign.build, **foreign.facts()}
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name(LOADER), folder / LOADER)
    return "sha256:" + hashlib.sha256(content).hexdigest()


def serialised(module: nn.Module) -> bytes:
    """The module's tensors as a safetensors file; shared ones once, under their first name."""
    from safetensors.torch import save

    seen: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    kept = {name: value for name, value in state.items() if seen.setdefault(id(value), name) == name}
    return save({name: value.detach().clone().contiguous() for name, value in kept.items()}, {"format": "pt"})


def tied(module: nn.Module) -> list[list[str]]:
    """Names of parameters that are one tensor, in groups."""
    groups: dict[int, list[str]] = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(value), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def called(module: nn.Module) -> nn.Module:
    """The module as one that takes inputs by name (``"0"`` is the first positional one) and gives tensors by name."""
    import torch

    class Called(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module
            self.eval()

        def forward(self, **inputs: Any) -> dict[str, Any]:
            places = [key for key in inputs if key.isdigit()]
            words = {key: value for key, value in inputs.items() if not key.isdigit()}
            return tensors(self.inner(*(inputs[key] for key in sorted(places, key=int)), **words))

    return Called()
