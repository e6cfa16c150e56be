"""The Mamba block: a gated state space whose step, input and output depend on the token (Gu and Dao 2023, section 3).

Axes: ``inner`` (I, the channels that are scanned), ``state`` (N, the state of each of them), ``rank`` (R, of the
projection that gives the step). The state of generation is the convolution's last tokens and the scan's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import concat, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv1d, Linear, Part, Role, Vector
from archtool.operators.activation import activation
from archtool.operators.recurrence import real_tokens
from archtool.operators.scan import selective_scan

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Ssm(Operator):
    """Selective state space: in-projection, depthwise convolution, scan, gate, out-projection.

    Attributes:
        kernel: taps of the causal depthwise convolution.
        act: activation after the convolution (the gate is always a SiLU).
        bias / conv_bias: biases of the in- and out-projection, and of the convolution.
        order: ``"forward"``, ``"backward"``, or down the ``"columns"`` of a grid or ``"columns_backward"``.
    """

    kind: ClassVar[str] = "mix.ssm"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T (3 D inner + inner (kernel + 2 rank + 2 state) + 3 inner state)"
    constraints: ClassVar[tuple[str, ...]] = ("orders along columns need a grid",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"inner": SELECT, "state": SELECT, "rank": SELECT}
    papers: ClassVar[tuple[int, ...]] = (61, 119, 203, 248)

    kernel: int = 4
    act: str = "silu"
    bias: bool = False
    conv_bias: bool = True
    order: str = "forward"

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.order == "forward"

    @property
    def on_grid(self) -> bool:  # type: ignore[override]
        """Whether the order is that of a grid."""
        return self.order.startswith("columns")

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``enter`` (x and gate), ``conv``, ``select`` (step, B and C), ``step``, ``decay`` (log -A), ``skip`` (D)."""
        inner, state, rank = site.dim("inner"), site.dim("state"), site.dim("rank")
        follows = (Role.ELEMENTWISE, Role.ELEMENTWISE)
        return (
            Linear("enter", dim(concat(inner, inner)), site.stream, self.bias),
            Conv1d("conv", inner, dim(1), (self.kernel,), bias=self.conv_bias),
            Linear("select", dim(concat(rank, state, state)), inner, bias=False),
            Linear("step", inner, rank, bias=False),
            Vector("step_bias", (inner,), follows[:1], "step"),
            Vector("decay", (inner, state), follows, "log_count"),
            Vector("skip", (inner,), follows[:1], "ones"),
            Linear("leave", site.stream, inner, self.bias),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Decaying the state, adding to it and reading it."""
        return 3 * flow.tokens * site.size("inner") * site.size("state")

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """All but the reading."""
        return 2 * flow.tokens * site.size("inner") * site.size("state")

    def state_elements(self, site: Site, flow: Flow) -> int:
        """The scan's state and the convolution's last tokens."""
        return site.size("inner") * (site.size("state") + self.kernel - 1)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Both halves of the in-projection, the convolved half, the steps and the output, and one state."""
        return site.size("inner") * (5 * flow.tokens + site.size("state"))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        sizes = {"inner": 10, "state": 4, "rank": 3}
        turned = (branch(cls(order=order), **sizes) for order in ("backward", "columns", "columns_backward"))
        return (
            in_text([branch(cls(), **sizes)]),
            in_text([branch(cls(kernel=1, act="gelu", bias=True, conv_bias=False), inner=16, state=3, rank=2)]),
            on_image(*([layer] for layer in turned), patch=4),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, the tokens continue those before."""
        real = real_tokens(ctx, x)
        if self.order != "forward":
            x, real = self._turned(x, ctx), None if real is None else self._turned(real, ctx)
        x_BTI, gate_BTI = m.enter(x if real is None else x * real).chunk(2, dim=-1)
        if self.order != "forward":
            return self._back(self._scanned(m, x_BTI, gate_BTI, real, _start(self.kernel, m.decay, x_BTI))[0], ctx)
        out, state = self._scanned(m, x_BTI, gate_BTI, real, ctx.swap(lambda: _start(self.kernel, m.decay, x_BTI)))
        ctx.store(state)
        return out

    def _scanned(
        self, m: Any, x_BTI: Tensor, gate_BTI: Tensor, real: Tensor | None, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The block after its in-projection, and the state that it leaves."""
        import torch
        import torch.nn.functional as F

        before_BKI, h_BIN = state
        seen_BSI = torch.cat((before_BKI, x_BTI), 1)
        x_BTI = activation(self.act)(m.conv(seen_BSI.transpose(1, 2))).transpose(1, 2)
        x_BTI = x_BTI if real is None else x_BTI * real
        size, wide = m.decay.shape[1], torch.promote_types(x_BTI.dtype, torch.float32)
        chosen = m.select(x_BTI)
        low_BTR, b_BTN, c_BTN = chosen.split((chosen.shape[-1] - 2 * size, size, size), dim=-1)
        step_BTI = F.softplus(m.step(low_BTR).to(wide) + m.step_bias.to(wide))
        decay_IN = -torch.exp(m.decay.to(wide))
        y_BTI, h_BIN = selective_scan(x_BTI.to(wide), step_BTI, decay_IN, b_BTN.to(wide), c_BTN.to(wide), h_BIN)
        y_BTI = torch.addcmul(y_BTI, x_BTI.to(wide), m.skip.to(wide)).to(x_BTI.dtype)
        return m.leave(y_BTI * F.silu(gate_BTI)), (seen_BSI[:, seen_BSI.shape[1] - self.kernel + 1 :], h_BIN)

    def _turned(self, x_BTD: Tensor, ctx: Any) -> Tensor:
        """The tokens in the order of the scan."""
        if self.order.startswith("columns"):
            x_BTD = x_BTD.unflatten(1, ctx.flow.grid).transpose(1, 2).flatten(1, 2)
        return x_BTD.flip(1) if self.order.endswith("backward") else x_BTD

    def _back(self, x_BTD: Tensor, ctx: Any) -> Tensor:
        """The tokens in their own order again."""
        x_BTD = x_BTD.flip(1) if self.order.endswith("backward") else x_BTD
        if not self.order.startswith("columns"):
            return x_BTD
        rows, columns = ctx.flow.grid
        return x_BTD.unflatten(1, (columns, rows)).transpose(1, 2).flatten(1, 2)


def _start(kernel: int, decay_IN: Tensor, x_BTI: Tensor) -> tuple[Tensor, Tensor]:
    """The state before the first token: nothing seen, nothing kept."""
    import torch

    (batch, _, inner), wide = x_BTI.shape, torch.promote_types(x_BTI.dtype, torch.float32)
    return x_BTI.new_zeros(batch, kernel - 1, inner), x_BTI.new_zeros(batch, *decay_IN.shape, dtype=wide)
