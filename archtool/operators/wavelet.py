"""Haar wavelet mixing: the tokens are split into bands of several scales, each band is mixed, and put together.

Source: the split of Nguyen et al. 2023 and Patro and Agneeswaran 2024 (scattering vision transformer: gating of the low
band, channel mixing of the high bands), with the orthonormal Haar basis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.operator import Flow, Operator, Site
from archtool.ir.parts import Linear, Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class HaarMixer(Operator):
    """Haar split over ``levels``; a gain per channel on the low band, a linear map on each level's high bands.

    Attributes:
        levels: how often the low band is halved (in both dimensions of a grid).
    """

    kind: ClassVar[str] = "mix.wavelet"
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {}
    on_grid: ClassVar[bool] = True
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "T D² (1 - 4^-levels) + 4 T D (transforms; sequences: 1 - 2^-levels)"
    constraints: ClassVar[tuple[str, ...]] = ("rows and columns (the length) are multiples of 2^levels",)
    papers: ClassVar[tuple[int, ...]] = (39, 61, 103)

    levels: int = 1

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``low`` gains and one ``high`` map per level."""
        gains = Vector("low", (site.stream,), (Role.ELEMENTWISE,), "ones")
        return (gains, *(Linear(f"high{i}", site.stream, site.stream) for i in range(self.levels)))

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per coefficient of the level's high bands."""
        split = 4 if flow.grid else 2
        before = flow.tokens // split ** int(part.name.removeprefix("high"))
        return before - before // split

    def mixing_macs(self, site: Site, flow: Flow) -> int:
        """Sums and differences there and back, at most four per token and level."""
        split = 4 if flow.grid else 2
        touched = sum(flow.tokens // split**i for i in range(self.levels))
        return 2 * int(math.log2(split)) * touched * site.stream.size(site.sizes)

    def uncounted_macs(self, site: Site, flow: Flow) -> int:
        """All: none is a matrix product."""
        return self.mixing_macs(site, flow)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.samples import branch, in_text, on_image

        return on_image([branch(cls(levels=2))]), in_text([branch(cls(levels=2))])

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        grid = ctx.flow.grid
        maps = [getattr(m, f"high{i}") for i in range(self.levels)]
        if grid:
            return _mixed(x.unflatten(1, tuple(grid)), (1, 2), maps, m.low).flatten(1, 2)
        return _mixed(x, (1,), maps, m.low)


def _mixed(x: Tensor, axes: tuple[int, ...], maps: list[Any], gain_D: Tensor) -> Tensor:
    """Split along ``axes``, map the high bands, recurse into the low band, put together."""
    if not maps:
        return x * gain_D
    low, *high = _split(x, axes)
    return _joined([_mixed(low, axes, maps[1:], gain_D), *(maps[0](band) for band in high)], axes)


def _split(x: Tensor, axes: tuple[int, ...]) -> list[Tensor]:
    """The low band first; orthonormal sums and differences of neighbours along each axis in turn."""
    bands = [x]
    for axis in axes:
        halves = [band.unflatten(axis, (-1, 2)).unbind(axis + 1) for band in bands]
        bands = [(a + b) * 2**-0.5 for a, b in halves] + [(a - b) * 2**-0.5 for a, b in halves]
    return bands


def _joined(bands: list[Tensor], axes: tuple[int, ...]) -> Tensor:
    """The inverse of `_split`."""
    import torch

    for axis in reversed(axes):
        half = len(bands) // 2
        pairs = zip(bands[:half], bands[half:], strict=True)
        both = [((s + d) * 2**-0.5, (s - d) * 2**-0.5) for s, d in pairs]
        bands = [torch.stack(two, dim=axis + 1).flatten(axis, axis + 1) for two in both]
    return bands[0]
