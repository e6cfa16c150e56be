"""Activation functions by their field names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh", "identity")
ALIASES = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python": "gelu",
    "swish": "silu",
    "linear": "identity",
}

SPELLED = {"gelu_tanh": "gelu_pytorch_tanh", "identity": "linear"}


def canonical(name: str) -> str:
    """The name used here for an activation as other tools spell it, or ``""`` if it is unknown."""
    plain = ALIASES.get(name, name)
    return plain if plain in NAMES else ""


def spelled(act: str) -> str:
    """The name that Hugging Face configurations use for a canonical activation."""
    return SPELLED.get(act, act)


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name."""
    import torch
    import torch.nn.functional as F

    table: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "relu": F.relu,
        "silu": F.silu,
        "tanh": torch.tanh,
        "identity": lambda x: x,
    }
    return table[name]
