"""What the operators of one forward pass share: inputs, positions, masks, state, and results computed once.

The state of generation is a plain dictionary: place → (keys, values) or a recurrent state, and ``"length"``, the
number of tokens already seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.operator import Flow

    FindFlows = Callable[[], dict[str, Flow]]

State = dict[str, Any]


class Context:
    """One forward pass."""

    def __init__(self, inputs: dict[str, Tensor], state: State | None, find_flows: FindFlows | None = None) -> None:
        self.inputs = inputs
        self.state = state
        self._find_flows = find_flows
        self.place = ""
        self._memo: dict[Hashable, Any] = {}

    @property
    def past(self) -> int:
        """Tokens seen before this pass."""
        return 0 if self.state is None else int(self.state.get("length", 0))

    @property
    def flow(self) -> Flow:
        """What enters the layer that runs now: its tokens, their grid, their sequences."""
        if self._find_flows is None:
            raise TypeError(f"{self.place} needs a grid, which this kind of pass does not know")
        found: Flow = self.once("flows", self._find_flows)[self.place]
        return found

    @property
    def positions(self) -> Tensor:
        """Positions (T,) of the tokens of this pass."""
        return self.once("positions", self._build_positions)

    def _build_positions(self) -> Tensor:
        import torch

        ids = self.inputs["input_ids"]
        return torch.arange(self.past, self.past + ids.shape[1], device=ids.device)

    def once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Compute a value once per pass."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

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

    def mask(self, causal: bool, window: int) -> Tensor | None:
        """The mask that the attention kernel needs: None where its own causal flag says it all."""
        padded = self.inputs.get("attention_mask") is not None
        tokens = self._tokens()
        windowed = bool(window) and self.past + tokens > window
        resumed = causal and self.past > 0 and tokens > 1
        return self.full_mask(causal, window) if padded or windowed or resumed else None

    def full_mask(self, causal: bool, window: int) -> Tensor | None:
        """True where a query (second last) may see a key (last); None where everything may."""
        return self.once(("mask", causal, window), lambda: self._build_mask(causal, window))

    def _tokens(self) -> int:
        ids = self.inputs.get("input_ids")
        return 0 if ids is None else ids.shape[1]

    def _build_mask(self, causal: bool, window: int) -> Tensor | None:
        import torch

        padding = self.inputs.get("attention_mask")
        seen = None if padding is None else padding.bool()[:, None, None, :]
        if not causal and not window:
            return seen
        queries = self.positions[:, None]
        keys = torch.arange(self.past + self._tokens(), device=queries.device)[None, :]
        allowed = keys <= queries if causal else torch.ones_like(keys <= queries)
        if window:
            allowed = allowed & (keys > queries - window)
        if seen is None:
            return allowed[None, None]
        both = allowed[None, None] & seen
        return both | ~both.any(dim=-1, keepdim=True)
