"""What passes inside a model: the stream behind a layer, or what one of its parts gives, taken out of a forward pass.

    with capturing(model, ("b3.ffn", "b3.attn.q")) as seen:
        outputs = model(**inputs)
    seen["b3.ffn"], seen["b3.attn.q"]            # on the graph: gradients flow through them

Names are places of the architecture (``block.layer``), with a part behind them where that part's own output is meant.
Sub-networks on views (`model.views.run`) are captured alike. Of a place that runs twice the last pass is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archtool.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture, Place
    from archtool.model.build import Model


@contextmanager
def capturing(model: Model, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that the forward passes inside fill; `InputError` for a name that the architecture has not."""
    seen: dict[str, Tensor] = {}
    running = [""]
    handles: list[Any] = []
    for layer, wanted in (_by_layer(model.architecture, names) if names else {}).items():
        module = model.get_submodule(layer)
        handles.append(module.register_forward_pre_hook(lambda m, values: running.__setitem__(0, values[3].place)))
        if any(not part for _, part in wanted):
            handles.append(module.register_forward_hook(_keep(seen, running, "", wanted)))
        for part in {part for _, part in wanted if part}:
            handles.append(module.get_submodule(part).register_forward_hook(_keep(seen, running, part, wanted)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], running: list[str], part: str, wanted: set[tuple[str, str]]) -> Any:
    def hook(module: Any, values: Any, output: Tensor) -> None:
        if (running[0], part) in wanted:
            seen[".".join(filter(None, (running[0], part)))] = output

    return hook


def _by_layer(arch: Architecture, names: Collection[str]) -> Mapping[str, set[tuple[str, str]]]:
    """The module of each layer that is listened to → (place, part) pairs wanted of it."""
    places = {place.key: place for place in arch.places}
    found: dict[str, set[tuple[str, str]]] = {}
    for name in names:
        key, part = (name, "") if name in places else name.rpartition(".")[::2]
        if key not in places or (part and part not in {p.name for p in places[key].parts}):
            raise InputError(f"the model has no {name} to look at", f"places are {', '.join(list(places)[:8])}, ...")
        found.setdefault(places[key].name, set()).add((key, part))
    return found


def streams(arch: Architecture) -> tuple[Place, ...]:
    """The last place of every block that belongs to a stage: where its hidden states leave, in order."""
    last = {place.block.name: place for place in arch.places if place.block.stage}
    return tuple(last.values())


def attentions(arch: Architecture) -> tuple[Place, ...]:
    """The places with parts ``q``, ``k`` and ``v``, in order."""
    return tuple(place for place in arch.places if {"q", "k", "v"} <= {part.name for part in place.parts})
