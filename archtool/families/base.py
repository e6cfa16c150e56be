"""The contract of a family, and the small builder that families describe their blocks with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from archtool.errors import InputError
from archtool.families.names import Entry
from archtool.ir.architecture import Architecture, Block, Layer
from archtool.operators.activation import canonical

Shapes = Mapping[str, tuple[int, ...]]
Fact = str | int | float | bool


class Family(Protocol):
    """What a family file provides.

    ``read`` takes a configuration and the file's tensor shapes (names tell prefixes and heads); ``write`` is
    its inverse: the configuration of an architecture, laid over ``base`` (the original configuration, or {}).
    ``names`` is the one name table. ``carried`` are file tensors that no computation uses and that travel along.
    A family of configurations without a ``model_type`` knows them by a method ``detects(config, shapes)``.
    """

    name: str
    model_types: tuple[str, ...]

    def read(self, config: Mapping[str, Any], shapes: Shapes) -> Architecture:
        """Architecture of a configuration."""

    def write(self, arch: Architecture, base: Mapping[str, Any]) -> dict[str, Any]:
        """Configuration of an architecture."""

    def names(self, arch: Architecture) -> tuple[Entry, ...]:
        """Every file tensor with its pieces."""

    def carried(self, name: str) -> bool:
        """Whether a file tensor that no entry claims is kept verbatim."""

    def carried_axes(self, name: str, arch: Architecture) -> tuple[str, ...]:
        """The axis of each dimension of a carried tensor (empty: none), which an edit selects there too."""


@dataclass
class Draft:
    """Collects blocks, sizes and facts while a family reads a configuration."""

    family: str
    inputs: tuple[str, ...]
    blocks: list[Block] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)

    def block(
        self, name: str, *layers: tuple[Layer, Mapping[str, int]], inputs: tuple[str, ...] = (), stage: str = ""
    ) -> None:
        """Add a block; each layer comes with the sizes of its local axes."""
        self.blocks.append(Block(name, tuple(layer for layer, _ in layers), inputs, "", stage))
        for layer, sizes in layers:
            self.sizes.update({f"{name}.{layer.name}.{axis}": n for axis, n in sizes.items()})

    def output(self, name: str, block: str) -> None:
        """Name an output of the graph."""
        self.outputs.append((name, block))

    def done(self) -> Architecture:
        """The architecture."""
        return Architecture(
            self.family,
            self.inputs,
            tuple(self.blocks),
            tuple(self.sizes.items()),
            tuple(self.outputs),
            tuple(self.facts.items()),
        )


def known_activation(name: Any, family: str) -> str:
    """The canonical activation, or an error that names the unknown one."""
    plain = canonical(str(name))
    if not plain:
        raise InputError(f"config.json: activation {name!r} is not supported for {family}", "Use gelu, relu, silu, …")
    return plain


def divided(whole: int, parts: int, what: str) -> int:
    """``whole / parts``, or an error that names what does not divide."""
    if whole % parts:
        raise InputError(f"config.json: {what}: {whole} is not a multiple of {parts}", "Correct the two numbers.")
    return whole // parts


def uniform(arch: Architecture, axis: str, stage: str = "s0") -> int | None:
    """The common size of a local axis (``"attn.kv"``) over a stage's blocks; None when they differ."""
    sizes = {arch.size.get(f"{block.owner}.{axis}") for block in arch.stage(stage)}
    return sizes.pop() if len(sizes) == 1 else None


def overlay(base: Mapping[str, Any], derived: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with derived values; a derived value equal to what ``base`` says leaves it untouched."""
    merged = dict(base)
    for key, value in derived.items():
        if key not in merged or merged[key] != value:
            merged[key] = value
    return merged
