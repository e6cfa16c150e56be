"""Linear attention: a kernel of features in place of the exponential, so that sums serve all queries.

Features: ``elu`` (Katharopoulos et al. 2020), ``cosformer`` (Qin et al. 2022: relu, weighted by the distance through
cos(a - b) = cos a cos b + sin a sin b), ``performer`` (Choromanski et al. 2021: positive orthogonal random features of
exp(scale q·k), drawn once and stored). Axes: ``kv`` (heads), ``qk``, ``v``. The state of generation is the sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.architecture import NormSpec
from archtool.ir.axes import dim
from archtool.ir.operator import SELECT, Flow, Operator, Site
from archtool.ir.parts import Kind, Linear, Part, Role, Vector, Witness
from archtool.operators.chunked import chunked, chunked_macs
from archtool.operators.recurrence import real_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture

FEATURES = ("elu", "cosformer", "performer")
TINY = 1e-20
"""Smallest sum of weights that a result is divided by."""


@dataclass(frozen=True, kw_only=True)
class LinearAttention(Operator):
    """``φ(q) Σ φ(k)ᵀ v / φ(q) Σ φ(k)ᵀ``, over all tokens or those so far.

    Attributes:
        feature: ``"elu"``, ``"cosformer"`` or ``"performer"``.
        features: number of random features (Performer).
        scale: factor on q·k inside the exponential (Performer).
        horizon: length over which cosFormer's weights fall to 0; 0: the length of the input (not causal).
        norm: norm of the result in place of the division (NormAttention, Qin et al. 2022b).
    """

    kind: ClassVar[str] = "mix.attn.linear"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = (
        "2 T D kv (qk + v) + 2 T kv F (v + 1) + causal: T kv min(T, 64) (F + v + 1) + performer: 2 T kv features qk;"
        " F = qk, 2 qk or features"
    )
    constraints: ClassVar[tuple[str, ...]] = (
        "performer: features > 0", "causal cosformer: a horizon, and no longer input", "elu: qk stays",
    )  # fmt: skip
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"kv": SELECT, "qk": SELECT, "v": SELECT}
    papers: ClassVar[tuple[int, ...]] = (37, 39, 63, 66, 112, 138, 145, 189, 199, 219, 266)

    feature: str = "elu"
    causal: bool = False
    features: int = 0
    scale: float = 1.0
    horizon: int = 0
    norm: NormSpec | None = None
    bias: bool = True
    out_bias: bool = True

    def __post_init__(self) -> None:
        if self.feature == "elu":  # elu(0) + 1 is 1: a query and key dimension counts even where it is zero
            object.__setattr__(self, "local_axes", {**self.local_axes, "qk": frozenset()})
        if self.feature not in FEATURES:
            raise ValueError(f"feature {self.feature!r} is none of {', '.join(FEATURES)}")
        if (self.feature == "performer") != (self.features > 0):
            raise ValueError("features are the number of random ones, for performer alone")
        if self.feature == "cosformer" and self.causal and not self.horizon:
            raise ValueError("causal cosformer needs a horizon: the weight of a pair must not depend on what follows")
        if self.feature == "performer" and self.norm:
            raise ValueError("performer's features have no scale of their own, so that a norm cannot replace the sum")

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``q``, ``k``, ``v``, ``o``; head count; Performer's directions ``omega`` (features, qk)."""
        head, values = site.dim("kv", "qk"), site.dim("kv", "v")
        parts: list[Part] = [
            Linear("q", head, site.stream, self.bias),
            Linear("k", head, site.stream, self.bias),
            Linear("v", values, site.stream, self.bias),
            Linear("o", site.stream, values, self.out_bias),
            Witness("heads", (site.dim("kv"),)),
        ]
        if self.feature == "performer":
            dims, roles = (dim(self.features), site.dim("qk")), (Role.ELEMENTWISE, Role.CONSUMES)
            parts.append(Vector("omega", dims, roles, "orthogonal", Kind.BUFFER))
        return (*parts, self.norm.part("norm", values)) if self.norm else tuple(parts)

    def width(self, site: Site) -> int:
        """Features of one head."""
        return {"elu": site.size("qk"), "cosformer": 2 * site.size("qk")}.get(self.feature, self.features)

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Sums and their reading, with a column for the weights; random features."""
        width, values = self.width(site), site.size("v") + 1
        mixed = flow.sequences * chunked_macs(flow.length, width, values)
        mixed = mixed if self.causal else 2 * flow.tokens * width * values
        return site.size("kv") * (mixed + 2 * flow.tokens * self.features * site.size("qk"))

    def state_elements(self, site: Site, flow: Flow) -> int:
        """Sums of every feature over values and weights, and the features' largest exponent."""
        return site.size("kv") * (self.width(site) * (site.size("v") + 1) + 1)

    def activation_elements(self, site: Site, flow: Flow) -> int:
        """Queries, keys, values, their features and the result."""
        return flow.tokens * site.size("kv") * 2 * (site.size("qk") + site.size("v") + self.width(site))

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        sizes = {"kv": 2, "qk": 6, "v": 4}
        random: dict[str, Any] = {"feature": "performer", "features": 8}
        falling: dict[str, Any] = {"feature": "cosformer"}
        causal: tuple[dict[str, Any], ...] = (
            {},
            {**falling, "horizon": 512},
            {**random, "scale": 0.4},
            {**falling, "horizon": 300},
        )
        texts = (
            in_text([branch(cls(causal=True, norm=NormSpec("rms") if i == 3 else None, **said), **sizes)])
            for i, said in enumerate(causal)
        )
        return (*texts, *(on_image([branch(cls(**said), **sizes)]) for said in ({}, falling, random)))

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D); with a state in ``ctx``, sums go on from those before."""
        import torch
        import torch.nn.functional as F

        heads, wide = m.heads.shape[0], torch.promote_types(x.dtype, torch.float32)
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2).to(wide) for y in (m.q(x), m.k(x), m.v(x)))
        v = F.pad(v, (0, 1), value=1.0)
        real = real_tokens(ctx, x)
        kept = None if real is None else real[:, None].to(wide)
        if not self.causal:
            k, _ = self._keys(m, k, kept, None, ctx)
            mixed = self._queries(m, q, ctx) @ (k.transpose(2, 3) @ v)
            return m.o(self._divided(m, mixed).to(x.dtype))
        sums, peak = ctx.swap(lambda: self._start(m, k, v))
        k, highest = self._keys(m, k, kept, peak, ctx)
        ones = torch.ones(heads, dtype=wide, device=x.device)
        mixed, sums = chunked(self._queries(m, q, ctx), k, v, ones, sums * torch.exp(peak - highest))
        ctx.store((sums, highest))
        return m.o(self._divided(m, mixed).to(x.dtype))

    def _start(self, m: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing summed; random features start below every exponent."""
        width = {"elu": k.shape[-1], "cosformer": 2 * k.shape[-1]}.get(self.feature, self.features)
        floor = -1e30 if self.feature == "performer" else 0.0
        return k.new_zeros(*k.shape[:2], width, v.shape[-1]), k.new_full((*k.shape[:2], 1, 1), floor)

    def _queries(self, m: Any, q: Tensor, ctx: Any) -> Tensor:
        if self.feature != "performer":
            return self._features(q, ctx)
        exponents = self._exponents(m, q)
        return (exponents - exponents.amax(-1, keepdim=True)).exp()

    def _keys(self, m: Any, k: Tensor, kept: Tensor | None, peak: Tensor | None, ctx: Any) -> tuple[Tensor, Any]:
        """Features of the keys, none for padding, and the exponent that they are taken relative to."""
        import torch

        if self.feature == "performer":
            exponents = self._exponents(m, k)
            highest = exponents.amax((2, 3), keepdim=True)
            peak = highest if peak is None else torch.maximum(peak, highest)
            features = (exponents - peak).exp()
        else:
            features = self._features(k, ctx)
        return features if kept is None else features * kept, peak

    def _exponents(self, m: Any, x: Tensor) -> Tensor:
        """Logarithms of the positive random features (B, H, T, F), without their common factor."""
        x = x * self.scale**0.5
        return x @ m.omega.to(x.dtype).transpose(0, 1) - x.square().sum(-1, keepdim=True) / 2

    def _features(self, x: Tensor, ctx: Any) -> Tensor:
        import torch
        import torch.nn.functional as F

        if self.feature == "elu":
            return F.elu(x) + 1
        tokens = x.shape[2]
        at_T1 = (torch.arange(tokens, device=x.device, dtype=x.dtype) + ctx.past)[:, None]
        angle_T1 = math.pi / 2 * at_T1 / (self.horizon or tokens)
        x = F.relu(x)
        return torch.cat((x * angle_T1.cos(), x * angle_T1.sin()), -1)

    def _divided(self, m: Any, mixed: Tensor) -> Tensor:
        """(B, H, T, V + 1) sums of values and of weights → (B, T, H × V)."""
        if self.norm:
            return m.norm(mixed[..., :-1].transpose(1, 2).flatten(2))
        return (mixed[..., :-1] / mixed[..., -1:].clamp_min(TINY)).transpose(1, 2).flatten(2)
