"""Hyena: two gates around a causal convolution in place of attention, ``o(q * conv(k * v))``.

Source: Poli et al. 2023 (Hyena, sections 3.2 and 3.3); Chandrasegaran et al. 2025 (Grafting) for the local forms: with
short convolutions on q, k, v and an explicit filter (Hyena-SE), without the filter (Hyena-X), without the short
convolutions (Hyena-Y). An implicit filter has a value for every distance: a perceptron of sines and cosines of the
distance, times an exponential decay; it is applied by fast Fourier transforms, or as a sum where a graph is exported.

Axes: ``inner`` (I, the channels that are gated), ``rank`` (hidden units of the perceptron that makes the filter).
Legend: `B` batch, `T` tokens, `L` distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import concat, dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Conv1d, Linear, Part, Role, Vector
from archtool.operators.recurrence import real_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

LONGEST = 2.0**14
"""The longest period of the sines of an implicit filter, in tokens."""


@dataclass(frozen=True, kw_only=True)
class Hyena(Operator):
    """A gated convolution of order two.

    Attributes:
        short: taps of the convolutions on q, k and v (0: none).
        kernel: taps of the explicit filter between the gates (0: none).
        waves: sines, and as many cosines, of which an implicit filter is made (0: it is explicit, or there is none).
        bias: biases of the projections and convolutions.
    """

    kind: ClassVar[str] = "mix.conv.hyena"
    causal: ClassVar[bool] = True
    cost_form: ClassVar[str] = (
        "T (4 D inner + inner (3 short + kernel)) + implicit: T rank (2 waves + inner) + 15 T inner log2 2T"
    )
    constraints: ClassVar[tuple[str, ...]] = ("a filter is explicit or implicit",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"inner": SELECT, "rank": SELECT}
    papers: ClassVar[tuple[int, ...]] = (263,)

    short: int = 4
    kernel: int = 4
    waves: int = 0
    bias: bool = True

    def __post_init__(self) -> None:
        if self.kernel and self.waves:
            raise ValueError("a filter is explicit (kernel) or implicit (waves)")

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``enter`` (q, k, v), ``short`` and ``filter`` convolutions or the filter's ``basis``, ``taps``, ``decay``."""
        inner = site.dim("inner")
        three = dim(concat(inner, inner, inner))
        parts: list[Part] = [
            Linear("enter", three, site.stream, self.bias),
            Linear("leave", site.stream, inner, self.bias),
        ]
        if self.short:
            parts.append(Conv1d("convs", three, dim(1), (self.short,), bias=self.bias))
        if self.kernel:
            parts.append(Conv1d("filter", inner, dim(1), (self.kernel,), bias=self.bias))
        if self.waves:
            decay = Vector("decay", (inner,), (Role.ELEMENTWISE,), "step")
            basis = Linear("basis", site.dim("rank"), dim(2 * self.waves))
            parts += [basis, Linear("taps", inner, site.dim("rank"), bias=False), decay]
        return tuple(parts)

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per token; the perceptron of the filter once per distance."""
        return flow.length if part.name in ("basis", "taps") else flow.tokens

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """The transforms of the stream and of the filter, and back, at twice the length."""
        return self.uncounted_macs(site, flow)

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """All of them."""
        if not self.waves:
            return 0
        return int(3 * 2.5 * 2 * flow.tokens * site.size("inner") * math.log2(2 * flow.length))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """What the convolutions still read: their last tokens, or all of them under an implicit filter."""
        taps = flow.tokens if self.waves else max(0, self.kernel - 1)
        return site.size("inner") * (3 * max(0, self.short - 1) + taps)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """q, k, v before and after the convolutions, and the gated product; an implicit filter and the spectra."""
        return site.size("inner") * (7 * flow.tokens + (5 * flow.length if self.waves else 0))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text

        forms = cls(), cls(kernel=0), cls(short=0, bias=False), cls(short=3, kernel=0, waves=4)
        return tuple(in_text([branch(op, inner=10, **({"rank": 6} if op.waves else {}))]) for op in forms)

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, the tokens continue those before."""
        import torch

        real = real_tokens(ctx, x)
        entered = m.enter(x) if real is None else m.enter(x) * real
        inner = entered.shape[-1] // 3
        longest = 0 if self.waves else max(0, self.kernel - 1)
        begun = (max(0, self.short - 1), 3 * inner), (longest, inner)
        seen, before = ctx.swap(lambda: tuple(x.new_zeros(x.shape[0], *shape) for shape in begun))
        entered = torch.cat((seen, entered), 1)
        convolved = m.convs(entered.transpose(1, 2)).transpose(1, 2) if self.short else entered
        q, k, v = (convolved if real is None else convolved * real).chunk(3, dim=-1)
        gated = torch.cat((before, k * v), 1)
        ctx.store(
            (
                entered[:, entered.shape[1] - begun[0][0] :],
                gated if self.waves else gated[:, gated.shape[1] - longest :],
            )
        )
        if self.waves:
            gated = long_convolution(gated, self._filter(m, gated))[:, before.shape[1] :]
        elif self.kernel:
            gated = m.filter(gated.transpose(1, 2)).transpose(1, 2)
        return m.leave(q * gated)

    def _filter(self, m: Any, gated_BTI: Tensor) -> Tensor:
        """The implicit filter (L, I): a value for every distance from 0 on."""
        import torch

        distance_L1 = torch.arange(gated_BTI.shape[1], device=gated_BTI.device)[:, None]
        steps = torch.arange(self.waves, device=gated_BTI.device) / max(1, self.waves - 1)
        angle_LW = distance_L1 * (math.pi * (2 / LONGEST) ** steps)
        waves = torch.cat((angle_LW.sin(), angle_LW.cos()), -1).to(gated_BTI.dtype)
        fall = torch.exp(-torch.nn.functional.softplus(m.decay) * distance_L1)
        return m.taps(torch.sin(m.basis(waves))) * fall.to(gated_BTI.dtype)


def long_convolution(x_BTI: Tensor, filter_LI: Tensor) -> Tensor:
    """``y_t = Σ_s filter_{t-s} x_s`` over the tokens s up to t, for each channel, in float32 or wider."""
    import torch

    wide, tokens = torch.promote_types(x_BTI.dtype, torch.float32), x_BTI.shape[1]
    if torch.compiler.is_exporting():
        return direct_convolution(x_BTI.to(wide), filter_LI.to(wide)).to(x_BTI.dtype)
    spectrum = torch.fft.rfft(x_BTI.to(wide), 2 * tokens, dim=1) * torch.fft.rfft(filter_LI.to(wide), 2 * tokens, dim=0)
    return torch.fft.irfft(spectrum, 2 * tokens, dim=1)[:, :tokens].to(x_BTI.dtype)


def direct_convolution(x_BTI: Tensor, filter_LI: Tensor) -> Tensor:
    """The same as a sum over all pairs: a triangular Toeplitz matrix for each channel."""
    import torch

    at_T = torch.arange(x_BTI.shape[1], device=x_BTI.device)
    apart_TS = at_T[:, None] - at_T
    matrix_TSI = filter_LI[apart_TS.clamp_min(0)] * (apart_TS >= 0)[..., None]
    return (matrix_TSI.permute(2, 0, 1) @ x_BTI.permute(2, 1, 0)).permute(2, 1, 0)
