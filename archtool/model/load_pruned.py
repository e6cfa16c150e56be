"""Loads a module that archtool has pruned, without archtool: this file lies in the folder of the model.

    from load_pruned import load_pruned
    from my_model import build

    module = load_pruned(build, "path/to/this/folder")

``pruned.json`` says which attributes of which parts changed (``out_channels: 12``), which names share one tensor, and
which indices of each tensor were removed; ``model.safetensors`` holds the tensors that are left. Nothing is traced.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load_pruned(build: Callable[[], Any], folder: str | Path) -> Any:
    """The module of ``build`` with the pruned shapes and their values, in evaluation mode."""
    from safetensors.torch import load_file

    said = json.loads((Path(folder) / "pruned.json").read_text(encoding="utf-8"))
    module = build()
    for name, values in said["attributes"].items():
        part = module.get_submodule(name)
        for key, value in values.items():
            setattr(part, key, tuple(value) if isinstance(value, list) else value)
    for name, value in load_file(Path(folder) / "model.safetensors").items():
        place(module, name, value)
    for first, *others in said["tied"]:
        for other in others:
            share(module, first, other)
    return module.eval()


def place(module: Any, name: str, value: Any) -> None:
    """Put a tensor where a parameter or buffer is."""
    import torch

    owner, _, leaf = name.rpartition(".")
    part = module.get_submodule(owner)
    old = getattr(part, leaf)
    if isinstance(old, torch.nn.Parameter):
        value = torch.nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(part, leaf, value)


def share(module: Any, first: str, other: str) -> None:
    """Make a name the same tensor as another."""
    owner, _, leaf = other.rpartition(".")
    home, _, kept = first.rpartition(".")
    setattr(module.get_submodule(owner), leaf, getattr(module.get_submodule(home), kept))


def tensors(value: Any, name: str = "") -> dict[str, Any]:
    """All floating tensors of an output, by place or key."""
    import torch

    if isinstance(value, torch.Tensor):
        return {name or "0": value} if value.is_floating_point() else {}
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {k: v for key, part in parts for k, v in tensors(part, f"{name}.{key}" if name else str(key)).items()}
