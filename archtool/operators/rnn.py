"""A long short-term memory as a token mixer (Hochreiter and Schmidhuber 1997), with torch's gates: i, f, g, o.

Axis: ``hidden`` (H). The state of generation is the hidden and the cell state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Linear, Part
from archtool.operators.recurrence import real_tokens, steps

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Lstm(Operator):
    """``leave(lstm(x))``; two of them side by side, one ``reverse``, are a bidirectional one."""

    kind: ClassVar[str] = "mix.rnn"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T hidden (5 D + 4 hidden)"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"hidden": SELECT}
    papers: ClassVar[tuple[int, ...]] = (150, 243, 245)

    reverse: bool = False

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return not self.reverse

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``input`` and ``recur`` (both four gates of hidden), ``leave`` (in, hidden)."""
        hidden, gates = site.dim("hidden"), site.dim(4, "hidden")
        return (
            Linear("input", gates, site.stream),
            Linear("recur", gates, hidden),
            Linear("leave", site.stream, hidden),
        )

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Hidden and cell state."""
        return 2 * site.size("hidden")

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """The gates' inputs and the hidden states."""
        return 5 * flow.tokens * site.size("hidden")

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        return (in_text([branch(cls(), hidden=10)]), in_text([branch(cls(reverse=True), hidden=8)]))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, the tokens continue those before."""
        import torch

        gates_BTG, real = m.input(x), real_tokens(ctx, x)
        streams = (gates_BTG,) if real is None else (gates_BTG, real)

        def step(carry: tuple[Tensor, ...], token: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
            after: tuple[Tensor, ...] = _cell(token[0] + m.recur(carry[0]), carry[1])
            if real is not None:
                after = tuple(torch.where(token[1] > 0, new, old) for new, old in zip(after, carry, strict=True))
            return after, after[0]

        if self.reverse:
            _, hidden_BTH = steps(step, _start(gates_BTG), tuple(s.flip(1) for s in streams))
            return m.leave(hidden_BTH.flip(1))
        state, hidden_BTH = steps(step, ctx.swap(lambda: _start(gates_BTG)), streams)
        ctx.store(state)
        return m.leave(hidden_BTH)


def _start(gates_BTG: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell state before the first token."""
    batch, _, gates = gates_BTG.shape
    return gates_BTG.new_zeros(batch, gates // 4), gates_BTG.new_zeros(batch, gates // 4)


def _cell(gates_BG: Tensor, cell_BH: Tensor) -> tuple[Tensor, Tensor]:
    """The next hidden and cell state."""
    import torch

    let_in, keep, made, let_out = gates_BG.chunk(4, dim=-1)
    cell_BH = torch.sigmoid(keep) * cell_BH + torch.sigmoid(let_in) * torch.tanh(made)
    return torch.sigmoid(let_out) * torch.tanh(cell_BH), cell_BH
