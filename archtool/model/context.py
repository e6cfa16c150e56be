"""What the operators of one forward pass share: inputs, positions, masks, state, and results computed once.

The state of generation is a plain dictionary: place → (keys, values) or a recurrent state; ``"length"``, the number
of tokens already seen; ``"kept"``, what left the blocks that run only once (an encoder).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from archtool.ir.architecture import entries, flows, roots
from archtool.ir.operator import Flow, feed_flow

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, Any]


class Graph:
    """What a pass needs to know of a network: its blocks, its inputs and where its layers stand.

    ``roots`` has the graph input that each block's stream comes from, ``done`` the blocks and inputs that nothing reads
    after a block, other than the ``outputs``.
    """

    def __init__(
        self, blocks: Sequence[Any], inputs: Sequence[str], sites: Mapping[str, Any], outputs: Sequence[str]
    ) -> None:
        self.blocks, self.inputs, self.sites = blocks, inputs, sites
        self.roots = roots(blocks, inputs)
        reads = ((block.name, (*read, *beside(block))) for block, read in entries(blocks, inputs))
        last = {name: block for block, read in reads for name in (block, *read)}
        self.done: dict[str, list[str]] = {}
        for name, block in last.items():
            self.done.setdefault(block, []).extend([name] if name not in outputs else [])
        self._flows: tuple[Any, Mapping[str, Flow]] = (None, {})

    def flows(self, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, Flow]:
        """What enters each layer for inputs of these shapes (of one sample); found again for the same shapes."""
        import torch

        traced = any(type(n) is not int for shape in shapes.values() for n in shape)
        if traced or torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return self._found(shapes)
        if self._flows[0] != shapes:
            self._flows = dict(shapes), self._found(shapes)
        return self._flows[1]

    def _found(self, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, Flow]:
        fed = {name: feed_flow(shape) for name, shape in shapes.items()}
        return flows(self.blocks, self.inputs, self.sites, fed)

    def steps(self, block: str) -> bool:
        """Whether generation runs the block at every step: it is on the last input."""
        return self.roots[block] == self.inputs[-1]


def beside(block: Any) -> list[str]:
    """The blocks that a block's layers read beside their own stream."""
    return [name for layer in block.layers for name in layer.reads]


class Context:
    """One forward pass."""

    def __init__(self, graph: Graph, inputs: dict[str, Tensor], state: State | None) -> None:
        self.graph = graph
        self.inputs = inputs
        self.state = state
        self.place = ""
        self.reads: tuple[str, ...] = ()
        self.root = graph.inputs[0]
        self._memo: dict[Hashable, Any] = {}

    def copied(self) -> Context:
        """A pass as it is now: what is computed later in one of the two stays unknown to the other."""
        other = copy(self)
        other._memo = dict(self._memo)
        return other

    @property
    def past(self) -> int:
        """Tokens of the present input seen before this pass."""
        stepping = self.state is not None and self.root == self.graph.inputs[-1]
        return int(self.state.get("length", 0)) if stepping and self.state is not None else 0

    @property
    def flow(self) -> Flow:
        """What enters the layer that runs now: its tokens, their grid, their sequences."""
        found: Flow = self.once("flows", self._build_flows)[self.place]
        return found

    def _build_flows(self) -> Mapping[str, Flow]:
        return self.graph.flows({name: tuple(self.inputs[name].shape[1:]) for name in self.graph.inputs})

    @property
    def positions(self) -> Tensor:
        """Positions (T,) of the tokens of this pass, on the input that the present block comes from."""
        return self.once(("positions", self._sequence), self._build_positions)

    def _build_positions(self) -> Tensor:
        import torch

        return torch.arange(self.past, self.past + self.tokens, device=self.inputs[self.root].device)

    @property
    def _sequence(self) -> str:
        """What tells the present sequence of tokens from others of this pass."""
        return self.root if self.inputs[self.root].dim() == 2 else self.place

    @property
    def tokens(self) -> int:
        """Tokens of one sequence of the present stream in this pass."""
        fed = self.inputs[self.root]
        return fed.shape[1] if fed.dim() == 2 else self.flow.length

    def once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Compute a value once per pass."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

    def note(self, key: Hashable, value: Any) -> None:
        """Leave a value for a later operator of this pass (`noted`): statistics that a head puts back."""
        self._memo["note", key] = value

    def noted(self, key: Hashable) -> Any:
        """What an earlier operator of this pass left under ``key``."""
        return self._memo["note", key]

    def keep(self, compute: Callable[[], Any]) -> Any:
        """What this place computes once for all steps of generation (keys and values of an encoder's output)."""
        if self.state is None:
            return compute()
        if self.place not in self.state:
            self.state[self.place] = compute()
        return self.state[self.place]

    def swap(self, first: Callable[[], Any]) -> Any:
        """This place's recurrent state before this pass (``first()`` at the start); set it with `store`."""
        return first() if self.state is None else self.state.get(self.place) or first()

    def store(self, value: Any) -> None:
        """Keep this place's recurrent state, a tuple of tensors with the batch first, where the pass keeps any."""
        if self.state is not None:
            self.state[self.place] = value

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append this pass' keys and values (B, H, T, K) to those kept at this place."""
        if self.state is None:
            return k, v
        import torch

        if self.place in self.state:
            before_k, before_v = self.state[self.place]
            k, v = torch.cat((before_k, k), dim=2), torch.cat((before_v, v), dim=2)
        self.state[self.place] = (k, v)
        return k, v

    def padding(self, root: str) -> Tensor | None:
        """The mask (B, T) of an input of token ids, 1 for real tokens; None where there is no padding.

        A mask of ones is left out: attention kernels are faster without. A graph that is traced keeps it, because
        its next call may have padding.
        """
        found = self.inputs.get(root.replace("input_ids", "attention_mask") if "_ids" in root else "attention_mask")
        return None if found is None else self.once(("padding", root), lambda: _needed(found))

    def memory_mask(self, index: int = 0) -> Tensor | None:
        """True (B, 1, 1, S) where the stream that this layer reads beside its own holds a real token."""
        root = self.graph.roots[self.reads[index]]
        found = self.padding(root)
        return None if found is None else self.once(("memory", root), lambda: found.bool()[:, None, None, :])

    def mask(self, causal: bool, window: int) -> Tensor | None:
        """The mask that the attention kernel needs: None where its own causal flag says it all."""
        padded = self.padding(self.root) is not None
        windowed = bool(window) and self.past + self.tokens > window
        resumed = causal and self.past > 0 and self.tokens > 1
        return self.full_mask(causal, window) if padded or windowed or resumed else None

    def full_mask(self, causal: bool, window: int) -> Tensor | None:
        """True where a query (second last) may see a key (last); None where everything may."""
        return self.once(("mask", self._sequence, causal, window), lambda: self._build_mask(causal, window))

    def _build_mask(self, causal: bool, window: int) -> Tensor | None:
        import torch

        padding = self.padding(self.root)
        seen = None if padding is None else padding.bool()[:, None, None, :]
        if not causal and not window:
            return seen
        queries = self.positions[:, None]
        keys = torch.arange(self.past + self.tokens, device=queries.device)[None, :]
        allowed = keys <= queries if causal else torch.ones_like(keys <= queries)
        if window:
            allowed = allowed & (keys > queries - window)
        if seen is None:
            return allowed[None, None]
        both = allowed[None, None] & seen
        return both | ~both.any(dim=-1, keepdim=True)


def _needed(mask: Tensor) -> Tensor | None:
    import torch

    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    return mask if traced or not bool(mask.all()) else None
