"""How a pass of the remote runtime keeps what generation needs in a transformers cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from archtool.model.context import Context


class RecurrentLayer(DynamicLayer):
    """What a recurrent layer keeps in the place of keys and values: a tuple of tensors, the batch first."""

    def __init__(self, held: tuple[Tensor, ...], seen: int) -> None:
        super().__init__()
        self.held, self.seen = held, seen

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.seen

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """The states of the beams that go on."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """The states of some samples."""
        self.held = tuple(value.index_select(0, indices.to(value.device)) for value in self.held)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every sample's state several times."""
        self.held = tuple(value.repeat_interleave(repeats, dim=0) for value in self.held)

    def crop(self, *tokens: int) -> None:
        """A recurrent state cannot go back."""
        raise ValueError("this model keeps a recurrent state, which cannot forget its last tokens")


class CachedContext(Context):
    """One forward pass whose keys, values and recurrent states live in a transformers cache."""

    def __init__(self, graph: Any, inputs: dict[str, Tensor], cache: Cache | None, index: Mapping[str, int]) -> None:
        super().__init__(graph, inputs, None)
        self.cache, self.index = cache, index
        self.seen = 0 if cache is None else int(cache.get_seq_length())

    @property
    def past(self) -> int:
        """Tokens of the present input seen before this pass."""
        return self.seen if self.root == self.graph.inputs[-1] else 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, T, K) of all tokens so far."""
        return (k, v) if self.cache is None else self.cache.update(k, v, self.index[self.place])

    def swap(self, first: Callable[[], Any]) -> Any:
        """This place's recurrent state before this pass."""
        layers: list[Any] = [] if self.cache is None else self.cache.layers
        layer = layers[self.index[self.place]] if self.index.get(self.place, len(layers)) < len(layers) else None
        return layer.held if isinstance(layer, RecurrentLayer) else first()

    def store(self, value: Any) -> None:
        """Keep this place's recurrent state, a tuple of tensors with the batch first."""
        if self.cache is None:
            return
        layers, at = self.cache.layers, self.index[self.place]
        layers.extend(DynamicLayer() for _ in range(at + 1 - len(layers)))
        layers[at] = RecurrentLayer(value, self.seen + self.inputs[self.graph.inputs[-1]].shape[1])
