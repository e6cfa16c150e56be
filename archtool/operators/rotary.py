"""Rotary positions: frequencies, their scalings, and the rotation in the half layout (Su et al. 2021).

A head's rotated dimensions are ``2 × pairs``: first all cosines' partners, then all sines'. ``kept`` names
the pairs that are left after pruning, so that frequencies stay those of the original pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Kept = tuple[int, ...] | tuple[tuple[int, ...], ...]
SCALINGS = ("default", "linear", "llama3", "yarn", "longrope")
CONTEXT = "original_max_position_embeddings"


@dataclass(frozen=True)
class Rotary:
    """Settings of rotary positions.

    Attributes:
        theta: base of the geometric series of wavelengths.
        pairs: number of pairs before any pruning (half the rotated head dimension).
        scaling: one of `SCALINGS`; ``settings`` are its (name, number) pairs as Hugging Face spells them.
        partial: whether further head dimensions pass unrotated (they form the axis ``qk``).
        kept: pairs that are left; empty: all. One tuple per kv head after per-head pruning.
        factors: LongRoPE's divisors of each original pair's frequency, for short and for long texts.
    """

    theta: float = 10000.0
    pairs: int = 0
    scaling: str = "default"
    settings: tuple[tuple[str, float], ...] = ()
    partial: bool = False
    kept: Kept = ()
    factors: tuple[tuple[float, ...], ...] = ()

    @property
    def switch(self) -> int:
        """The longest text that LongRoPE's short factors serve."""
        return int(dict(self.settings)[CONTEXT])

    def selected(self, keep: Kept, per: str | None) -> Rotary:
        """After a selection of pairs; ``keep`` indexes what is left now."""
        now: tuple[int, ...] = self.kept or tuple(range(self.pairs))  # type: ignore[assignment]
        if per is None and now and isinstance(now[0], tuple):
            return replace(self, kept=tuple(tuple(row[i] for i in keep) for row in now))  # type: ignore[attr-defined,index]
        if per is None:
            return replace(self, kept=tuple(now[i] for i in keep))  # type: ignore[index]
        rows = now if isinstance(now[0], tuple) else (now,) * len(keep)
        return replace(self, kept=tuple(tuple(row[i] for i in k) for row, k in zip(rows, keep, strict=True)))  # type: ignore[attr-defined,union-attr,index]

    def heads_selected(self, keep: tuple[int, ...]) -> Rotary:
        """After a selection of kv heads."""
        if self.kept and isinstance(self.kept[0], tuple):
            return replace(self, kept=tuple(self.kept[i] for i in keep))
        return self


def all_frequencies(rotary: Rotary) -> list[float]:
    """Inverse frequencies of all original pairs, in float32 steps as the field computes them."""
    import torch

    steps = torch.arange(0, 2 * rotary.pairs, 2, dtype=torch.int64).to(torch.float32) / (2 * rotary.pairs)
    plain = 1.0 / (rotary.theta**steps)
    settings = dict(rotary.settings)
    if rotary.scaling == "linear":
        plain = plain / settings["factor"]
    elif rotary.scaling == "llama3":
        plain = _llama3(plain, settings)
    elif rotary.scaling == "yarn":
        plain = _yarn(rotary, settings)
    return [float(value) for value in plain]


def frequencies(rotary: Rotary) -> list[float] | list[list[float]] | list[list[list[float]]]:
    """Inverse frequencies of the kept pairs: (pairs), or (kv, pairs) after per-head pruning.

    LongRoPE (Ding et al. 2024) has two such tables, for short and for long texts, stacked in front.
    """
    if not rotary.factors:
        return _kept(rotary, all_frequencies(rotary))
    return [_kept(rotary, _divided(rotary, row)) for row in rotary.factors]  # type: ignore[return-value]


def _kept(rotary: Rotary, base: list[float]) -> list[float] | list[list[float]]:
    if not rotary.kept:
        return base
    if isinstance(rotary.kept[0], tuple):
        return [[base[i] for i in row] for row in rotary.kept]  # type: ignore[union-attr]
    return [base[i] for i in rotary.kept]  # type: ignore[index]


def _divided(rotary: Rotary, factors: tuple[float, ...]) -> list[float]:
    import torch

    steps = torch.arange(0, 2 * rotary.pairs, 2, dtype=torch.int64).to(torch.float32) / (2 * rotary.pairs)
    return [float(value) for value in 1.0 / (torch.tensor(factors, dtype=torch.float32) * rotary.theta**steps)]


def for_length(table: Tensor, rotary: Rotary, positions: Tensor) -> Tensor:
    """The frequencies that serve a text that ends at the last position."""
    import torch

    return torch.where(positions[-1] >= rotary.switch, table[1], table[0]) if rotary.factors else table


def attention_factor(rotary: Rotary) -> float:
    """Factor on cosines and sines (YaRN, Peng et al. 2023, section 3.4; LongRoPE); 1 elsewhere."""
    settings = dict(rotary.settings)
    if "attention_factor" in settings:
        return settings["attention_factor"]
    if rotary.scaling != "yarn":
        return 1.0
    factor = settings["factor"]
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


def _llama3(plain: Tensor, settings: dict[str, float]) -> Tensor:
    """Llama 3.1's scaling: long wavelengths divided by ``factor``, a smooth band between."""
    import torch

    factor, low, high = settings["factor"], settings["low_freq_factor"], settings["high_freq_factor"]
    context = settings["original_max_position_embeddings"]
    wavelength = 2 * math.pi / plain
    scaled = torch.where(wavelength > context / low, plain / factor, plain)
    smooth = (context / wavelength - low) / (high - low)
    blended = (1 - smooth) * scaled / factor + smooth * scaled
    band = ~(wavelength < context / high) & ~(wavelength > context / low)
    return torch.where(band, blended, scaled)


def _yarn(rotary: Rotary, settings: dict[str, float]) -> Tensor:
    """YaRN: interpolate slow pairs, extrapolate fast ones, a linear ramp between."""
    import torch

    width, theta = 2 * rotary.pairs, rotary.theta
    context = settings["original_max_position_embeddings"]

    def pair_of(rotations: float) -> float:
        return (width * math.log(context / (rotations * 2 * math.pi))) / (2 * math.log(theta))

    low, high = pair_of(settings.get("beta_fast", 32.0)), pair_of(settings.get("beta_slow", 1.0))
    if settings.get("truncate", 1.0):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    powers = theta ** (torch.arange(0, width, 2).to(torch.float32) / width)
    high += 0.001 if low == high else 0.0
    ramp = torch.clamp((torch.arange(rotary.pairs, dtype=torch.float32) - low) / (high - low), 0, 1)
    keep_fast = 1 - ramp
    return (1.0 / (settings["factor"] * powers)) * (1 - keep_fast) + (1.0 / powers) * keep_fast


def cos_sin(inv_freq: Tensor, positions: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (1, 1 or H, T, 2 × pairs) for positions (T,)."""
    import torch

    angle = positions.to(torch.float32)[:, None] * inv_freq[..., None, :]
    angle = torch.cat((angle, angle), dim=-1)
    while angle.dim() < 4:
        angle = angle[None]
    return angle.cos() * factor, angle.sin() * factor


def rotate(x_BHTK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first ``2 × pairs`` head dimensions; the rest passes."""
    import torch

    width = cos.shape[-1]
    turned, plain = x_BHTK[..., :width], x_BHTK[..., width:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return turned if plain.shape[-1] == 0 else torch.cat((turned, plain), dim=-1)
