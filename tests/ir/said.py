"""Small operators that say what docs/representation.md promises; the page quotes them word for word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from archtool.ir.axes import Dim, concat, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Constant, Conv1d, Conv2d, Linear, Norm, Part, Role, Vector, Witness

Axes = Mapping[str, frozenset[str]]


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, T, H × K) → (B, H, T, K)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class PatchMerging(Operator):
    """Swin: four neighbours become one token of the next stage."""

    kind: ClassVar[str] = "said.merge"
    into: str

    def parts(self, site: Site) -> tuple[Part, ...]:
        four = dim(4, *site.stream.factors)
        return (Norm("norm", four), Linear("reduce", dim(self.into), four, bias=False))

    def out(self, site: Site) -> Dim:
        return dim(self.into)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        rows, columns = flow.grid
        return Flow(flow.tokens // 4, (rows // 2, columns // 2))

    def calls(self, part: Part, flow: Flow) -> int:
        return flow.tokens // 4

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        rows, columns = ctx.flow.grid
        cells = x.unflatten(1, (rows // 2, 2, columns // 2, 2))
        return m.reduce(m.norm(cells.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)))


@dataclass(frozen=True)
class WindowIndex:
    """Row of the bias table for each pair of cells of a window."""

    window: int

    def values(self) -> Tensor:
        w = self.window
        cells = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
        apart = cells[:, :, None] - cells[:, None, :] + w - 1
        return apart[0] * (2 * w - 1) + apart[1]


@dataclass(frozen=True, kw_only=True)
class WindowAttention(Operator):
    """Swin: attention inside windows, with a bias per head and relative position."""

    kind: ClassVar[str] = "said.window"
    local_axes: ClassVar[Axes] = {"heads": SELECT, "qk": SELECT, "v": SELECT}
    window: int
    scale: float

    def parts(self, site: Site) -> tuple[Part, ...]:
        area, offsets = self.window**2, (2 * self.window - 1) ** 2
        return (
            Linear("q", site.dim("heads", "qk"), site.stream),
            Linear("k", site.dim("heads", "qk"), site.stream),
            Linear("v", site.dim("heads", "v"), site.stream),
            Linear("o", site.stream, site.dim("heads", "v")),
            Witness("heads", (site.dim("heads"),)),
            Vector("bias", (dim(offsets), site.dim("heads")), (Role.INDEX, Role.ELEMENTWISE)),
            Constant("index", (dim(area), dim(area)), WindowIndex(self.window)),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        return site.size("heads") * flow.tokens * self.window**2 * (site.size("qk") + site.size("v"))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        w, (rows, columns) = self.window, ctx.flow.grid
        cut = x.unflatten(1, (rows // w, w, columns // w, w)).transpose(2, 3)
        windows = cut.flatten(3, 4).flatten(0, 2)
        q, k, v = (heads_of(y, m.heads.shape[0]) for y in (m.q(windows), m.k(windows), m.v(windows)))
        bias = m.bias[m.index].permute(2, 0, 1)
        mixed = torch.softmax(q @ k.transpose(2, 3) * self.scale + bias, dim=-1) @ v
        out = m.o(mixed.transpose(1, 2).flatten(2))
        return out.reshape(*cut.shape[:3], w, w, -1).transpose(2, 3).flatten(1, 4)


@dataclass(frozen=True, kw_only=True)
class GridConv(Operator):
    """A convolution on the grid; several streams enter side by side."""

    kind: ClassVar[str] = "said.conv"
    kernel: int
    into: str

    def parts(self, site: Site) -> tuple[Part, ...]:
        k, entering = self.kernel, dim(concat(*site.inputs))
        return (Conv2d("conv", dim(self.into), entering, (k, k), padding=(k // 2, k // 2), bias=False),)

    def out(self, site: Site) -> Dim:
        return dim(self.into)

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        x_BTD = torch.cat(x, dim=-1) if isinstance(x, tuple) else x
        return m.conv(x_BTD.transpose(1, 2).unflatten(2, ctx.flow.grid)).flatten(2).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class Silu(Operator):
    """An activation between layers."""

    kind: ClassVar[str] = "said.silu"

    def parts(self, site: Site) -> tuple[Part, ...]:
        return ()

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        return F.silu(x)


@dataclass(frozen=True, kw_only=True)
class Unfold(Operator):
    """MobileViT: pixels at the same place of every patch form one sequence."""

    kind: ClassVar[str] = "said.unfold"
    patch: int

    def parts(self, site: Site) -> tuple[Part, ...]:
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        return Flow(flow.tokens, flow.grid, sequences=self.patch**2)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        p, (rows, columns) = self.patch, ctx.flow.grid
        cells = x.unflatten(1, (rows // p, p, columns // p, p)).permute(0, 2, 4, 1, 3, 5)
        return cells.flatten(3, 4).flatten(0, 2)


@dataclass(frozen=True, kw_only=True)
class Fold(Operator):
    """The inverse of `Unfold`."""

    kind: ClassVar[str] = "said.fold"
    patch: int

    def parts(self, site: Site) -> tuple[Part, ...]:
        return ()

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        return Flow(flow.tokens, flow.grid)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        p, (rows, columns) = self.patch, ctx.flow.grid
        cells = x.reshape(-1, p, p, rows // p, columns // p, x.shape[-1])
        return cells.permute(0, 3, 1, 4, 2, 5).flatten(1, 4)


@dataclass(frozen=True, kw_only=True)
class BiasedAttention(Operator):
    """T5: unscaled attention with a bias by distance; one table for all blocks."""

    kind: ClassVar[str] = "said.t5"
    local_axes: ClassVar[Axes] = {"heads": SELECT, "qk": SELECT, "v": SELECT}
    buckets: int = 8
    tie: str = ""

    def parts(self, site: Site) -> tuple[Part, ...]:
        roles = (Role.INDEX, Role.ELEMENTWISE)
        return (
            Linear("q", site.dim("heads", "qk"), site.stream, bias=False),
            Linear("k", site.dim("heads", "qk"), site.stream, bias=False),
            Linear("v", site.dim("heads", "v"), site.stream, bias=False),
            Linear("o", site.stream, site.dim("heads", "v"), bias=False),
            Witness("heads", (site.dim("heads"),)),
            Vector("bias", (dim(self.buckets), site.dim("heads")), roles, tie=self.tie),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        return site.size("heads") * flow.tokens**2 * (site.size("qk") + site.size("v"))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        apart = (ctx.positions[:, None] - ctx.positions[None, :]).abs().clamp_max(self.buckets - 1)
        q, k, v = (heads_of(y, m.heads.shape[0]) for y in (m.q(x), m.k(x), m.v(x)))
        mixed = torch.softmax(q @ k.transpose(2, 3) + m.bias[apart].permute(2, 0, 1), dim=-1) @ v
        return m.o(mixed.transpose(1, 2).flatten(2))


@dataclass(frozen=True, kw_only=True)
class Expand(Operator):
    """U-Net: each token becomes a square of four."""

    kind: ClassVar[str] = "said.expand"
    into: str

    def parts(self, site: Site) -> tuple[Part, ...]:
        return (Linear("expand", dim(4, self.into), site.stream, bias=False),)

    def out(self, site: Site) -> Dim:
        return dim(self.into)

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        rows, columns = flow.grid
        return Flow(flow.tokens * 4, (rows * 2, columns * 2))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        rows, columns = ctx.flow.grid
        cells = m.expand(x).unflatten(-1, (2, 2, -1)).unflatten(1, (rows, columns))
        return cells.permute(0, 1, 3, 2, 4, 5).flatten(1, 4)


@dataclass(frozen=True, kw_only=True)
class Join(Operator):
    """U-Net: the streams that enter, side by side."""

    kind: ClassVar[str] = "said.join"

    def parts(self, site: Site) -> tuple[Part, ...]:
        return ()

    def out(self, site: Site) -> Dim:
        return dim(concat(*site.inputs))

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        return torch.cat(x, dim=-1)


@dataclass(frozen=True, kw_only=True)
class Mamba(Operator):
    """The Mamba block (Gu and Dao 2023, section 3), scanned step by step."""

    kind: ClassVar[str] = "said.mamba"
    local_axes: ClassVar[Axes] = {"inner": SELECT, "state": SELECT, "rank": SELECT}
    kernel: int = 4

    def parts(self, site: Site) -> tuple[Part, ...]:
        inner, state, rank = site.dim("inner"), site.dim("state"), site.dim("rank")
        follows = (Role.ELEMENTWISE, Role.ELEMENTWISE)
        return (
            Linear("enter", dim(concat(inner, inner)), site.stream, bias=False),
            Conv1d("conv", inner, dim(1), (self.kernel,)),
            Linear("select", dim(concat(rank, state, state)), inner, bias=False),
            Linear("step", inner, rank),
            Vector("decay", (inner, state), follows),
            Vector("skip", (inner,), (Role.ELEMENTWISE,), "ones"),
            Linear("leave", site.stream, inner, bias=False),
        )

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        return 3 * flow.tokens * site.size("inner") * site.size("state")

    def state_elements(self, site: Site, flow: Flow) -> int:
        return site.size("inner") * (site.size("state") + self.kernel - 1)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        x_BTI, gate_BTI = m.enter(x).chunk(2, dim=-1)
        x_BTI = F.silu(m.conv(F.pad(x_BTI.transpose(1, 2), (self.kernel - 1, 0)))).transpose(1, 2)
        rank, state = m.step.weight.shape[1], m.decay.shape[1]
        step, b_BTN, c_BTN = m.select(x_BTI).split((rank, state, state), dim=-1)
        step_BTI, h_BIN, out = F.softplus(m.step(step)), 0.0, []
        for t in range(x.shape[1]):
            forget = torch.exp(-torch.exp(m.decay) * step_BTI[:, t, :, None])
            h_BIN = forget * h_BIN + (step_BTI * x_BTI)[:, t, :, None] * b_BTN[:, t, None]
            out.append((h_BIN * c_BTN[:, t, None]).sum(-1))
        return m.leave((torch.stack(out, dim=1) + m.skip * x_BTI) * F.silu(gate_BTI))
