"""Continuous positions: numbers that say where or when each token is, encoded and added to the stream.

Source: Vaswani et al. 2017 (sines and cosines, here of real numbers), Tancik et al. 2020 (Fourier features), Kazemi et
al. 2019 (Time2Vec). The coordinates are timestamps, places or wavelengths; they enter beside the stream, one row for
each token. Axes: ``bands``, the waves of Time2Vec.

Legend: `B` batch, `T` tokens, `K` coordinates, `W` waves, `D` width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import concat, dim
from archtool.ir.operator import SELECT, Feed, Flow, Operator, Site
from archtool.ir.parts import Constant, Linear, Part

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True)
class Waves:
    """Angular frequencies from 1 to ``highest``, evenly on a logarithmic scale."""

    count: int
    highest: float

    def values(self) -> Tensor:
        """(count)."""
        import torch

        return torch.logspace(0.0, math.log10(self.highest), self.count, dtype=torch.float64).float()


@dataclass(frozen=True, kw_only=True)
class Continuous(Operator):
    """An encoding of coordinates, to be added to the stream (a residual layer that reads ``source``).

    Attributes:
        source: name of the graph input (B, T, K) that holds the coordinates.
        coordinates: how many a token has.
        form: ``"fourier"`` (sines and cosines of fixed frequencies) or ``"time2vec"`` (learned frequencies and phases
            beside the coordinates themselves).
        waves: frequencies of ``"fourier"``, for each coordinate.
        highest: the highest of them, in radians per unit.
        rows: the extent that says how many tokens there are.
    """

    kind: ClassVar[str] = "pos.continuous"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = (
        "2 T coordinates waves D, or T (coordinates (coordinates + bands) + (coordinates + bands) D)"
    )
    constraints: ClassVar[tuple[str, ...]] = ("reads a graph input with a row for each token of a sequence",)
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"bands": SELECT}
    papers: ClassVar[tuple[int, ...]] = (110, 132, 137, 217, 233)

    source: str = "past_time_features"
    coordinates: int = 1
    form: str = "fourier"
    waves: int = 16
    highest: float = 1000.0
    rows: str = "series_length"

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``frequency`` (waves), or ``trend`` and ``wave``; ``project`` to the width."""
        given = dim(self.coordinates)
        if self.form == "fourier":
            features = dim(2, self.coordinates, self.waves)
            return (
                Constant("frequency", (dim(self.waves),), Waves(self.waves, self.highest)),
                Linear("project", site.stream, features),
            )
        features = dim(concat(given, site.dim("bands")))
        return (
            Linear("trend", given, given),
            Linear("wave", site.dim("bands"), given),
            Linear("project", site.stream, features),
        )

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """The coordinates."""
        return {self.source: Feed((self.rows, self.coordinates))}

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per token of a sequence: sequences of a sample share their coordinates."""
        return flow.length

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.series_samples import timed

        return (
            timed(cls(coordinates=2, waves=3), variates=3, joint=True),
            timed(cls(coordinates=2, form="time2vec"), variates=2, joint=False, bands=5),
        )

    def forward(self, m: Any, x: Any, ctx: Any) -> Tensor:
        """(B × sequences, T, D) beside (B, T, K) → (B × sequences, T, D)."""
        import torch

        at_BTK = x[1]
        if self.form == "fourier":
            angles = (at_BTK.unsqueeze(-1) * m.frequency).flatten(2)
            features = torch.cat((torch.sin(angles), torch.cos(angles)), dim=-1)
        else:
            features = torch.cat((m.trend(at_BTK), torch.sin(m.wave(at_BTK))), dim=-1)
        encoded = m.project(features)
        sequences = ctx.flow.sequences
        return encoded if sequences == 1 else encoded.repeat_interleave(sequences, dim=0)
