"""The Mamba-2 block: a state space with one decay per head, computed in chunks (Dao and Gu 2024, section 7).

Axes: ``kv`` (groups of heads that share the directions into and out of the state), ``group`` (heads of each), ``v``
(P, values of a head), ``state`` (N). The state of generation is the convolution's last tokens and a matrix per head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import concat, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv1d, Linear, Part, Role, Vector, Witness
from archtool.operators.activation import activation
from archtool.operators.chunked import chunked_macs
from archtool.operators.dual_scan import dual_scan
from archtool.operators.recurrence import real_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

GATED = NormSpec("rms", 1e-5)


@dataclass(frozen=True, kw_only=True)
class Ssd(Operator):
    """``leave(norm(scan(x) * silu(gate)))``, with x and both directions of the state convolved first.

    Attributes:
        kernel: taps of the causal depthwise convolution.
        act: activation after the convolution (the gate is always a SiLU).
        norm: norm of the gated result, over all heads, or None.
        bias / conv_bias: biases of the in- and out-projection, and of the convolution.
    """

    kind: ClassVar[str] = "mix.ssm.dual"
    causal: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = (
        "T (D (3 h v + 2 kv state + h) + kernel (h v + 2 kv state)) + T h (min(T, 64) (state + v) + 2 state v), "
        "h = kv · group heads"
    )
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "group": SELECT, "v": SELECT, "state": SELECT}
    papers: ClassVar[tuple[int, ...]] = ()

    kernel: int = 4
    act: str = "silu"
    norm: NormSpec | None = GATED
    bias: bool = False
    conv_bias: bool = True

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``enter`` (x, B, C), ``gate``, ``step`` (per head), ``conv``, ``decay`` (log -A), ``skip`` (D), ``leave``."""
        heads, values, state = site.dim("kv", "group"), site.dim("kv", "group", "v"), site.dim("kv", "state")
        mixed = dim(concat(values, state, state))
        per_head = (Role.ELEMENTWISE, Role.ELEMENTWISE)
        parts: tuple[Part, ...] = (
            Linear("enter", mixed, site.stream, self.bias),
            Linear("gate", values, site.stream, self.bias),
            Linear("step", heads, site.stream, bias=False),
            Vector("step_bias", (heads,), per_head[:1], "step"),
            Conv1d("conv", mixed, dim(1), (self.kernel,), bias=self.conv_bias),
            Vector("decay", (heads,), per_head[:1], "log_count"),
            Vector("skip", (heads,), per_head[:1], "ones"),
            Witness("heads", (site.dim("kv"), site.dim("group"))),
            Witness("width", (site.dim("v"), site.dim("state"))),
            Linear("leave", site.stream, values, self.bias),
        )
        return (*parts, self.norm.part("norm", values)) if self.norm else parts

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """See `chunked_macs`."""
        heads = site.size("kv") * site.size("group")
        return heads * flow.sequences * chunked_macs(flow.length, site.size("state"), site.size("v"))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """A matrix per head and the convolution's last tokens."""
        heads, values, state = site.size("kv") * site.size("group"), site.size("v"), site.size("state")
        return heads * values * state + (self.kernel - 1) * (heads * values + 2 * site.size("kv") * state)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """What enters the convolution and leaves it, the gate and the result."""
        values, state = site.size("kv") * site.size("group") * site.size("v"), site.size("kv") * site.size("state")
        return flow.tokens * (4 * values + 4 * state)

    def feeder(self, norm: str) -> str:
        """See `Operator.feeder`."""
        return "leave" if norm == "branch" else ""

    def readers(self, norm: str) -> tuple[str, ...]:
        """See `Operator.readers`."""
        return ("leave",) if norm == "norm" else ()

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        plain = cls(kernel=2, act="gelu", norm=None, bias=True, conv_bias=False)
        return (
            in_text([branch(cls(), kv=2, group=2, v=4, state=6)]),
            in_text([branch(plain, kv=1, group=3, v=6, state=4)]),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, the tokens continue those before."""
        import torch
        import torch.nn.functional as F

        real = real_tokens(ctx, x)
        x = x if real is None else x * real
        entered = m.enter(x)
        seen, state_BHNP = ctx.swap(lambda: self._start(m, entered))
        entered = torch.cat((seen, entered), 1)
        mixed = activation(self.act)(m.conv(entered.transpose(1, 2))).transpose(1, 2)
        mixed = mixed if real is None else mixed * real
        (kv, group), (values, size) = m.heads.shape[:2], m.width.shape[:2]
        x_BTE, b_BTE, c_BTE = mixed.split((kv * group * values, kv * size, kv * size), dim=-1)
        wide = torch.promote_types(x.dtype, torch.float32)
        b, c = (
            y.unflatten(-1, (kv, size)).repeat_interleave(group, 2).transpose(1, 2).to(wide) for y in (b_BTE, c_BTE)
        )
        step_BHT = F.softplus(m.step(x).to(wide) + m.step_bias.to(wide)).transpose(1, 2)
        x_BHTP = x_BTE.unflatten(-1, (kv * group, values)).transpose(1, 2).to(wide)
        decay_BHT = -torch.exp(m.decay.to(wide))[:, None] * step_BHT
        y_BHTP, state_BHNP = dual_scan(c, b, x_BHTP * step_BHT[..., None], decay_BHT, state_BHNP)
        ctx.store((entered[:, entered.shape[1] - self.kernel + 1 :], state_BHNP))
        y_BTE = (y_BHTP + x_BHTP * m.skip.to(wide)[:, None, None]).transpose(1, 2).flatten(2).to(x.dtype)
        gated = y_BTE * F.silu(m.gate(x))
        return m.leave(m.norm(gated) if self.norm else gated)

    def _start(self, m: Any, entered_BTE: Tensor) -> tuple[Tensor, Tensor]:
        """The state before the first token: nothing seen, nothing kept."""
        import torch

        (kv, group), (values, size) = m.heads.shape[:2], m.width.shape[:2]
        batch, wide = entered_BTE.shape[0], torch.promote_types(entered_BTE.dtype, torch.float32)
        seen = entered_BTE.new_zeros(batch, self.kernel - 1, entered_BTE.shape[-1])
        return seen, entered_BTE.new_zeros(batch, kv * group, size, values, dtype=wide)
