"""Embedding of a multivariate series: patches of each variate, patches of all variates, or whole variates as tokens.

Source: Nie et al. 2023 (PatchTST: patches, each variate a sequence of its own), Liu et al. 2024 (iTransformer: the
whole series of a variate is one token), Zhou et al. 2021 (Informer: a token holds all variates). Patches end with
the last row; where the stride leaves a rest, the first rows are not seen. Axes: ``positions`` counts the tokens of a
variate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Feed, Flow, Operator, Site
from archtool.ir.parts import Kind, Linear, Part, Role, Vector
from archtool.operators.variates import projections

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class SeriesStem(Operator):
    """Linear maps of patches.

    Attributes:
        variates: how many a sample has.
        patch / stride: rows of a patch, and from one patch to the next.
        form: ``"apart"`` (each variate is a sequence of its patches), ``"together"`` (the patches of all variates are
            one sequence; with patches as long as the series: variates as tokens), ``"joint"`` (a token is a patch of
            all variates).
        pad: how often the last row is repeated behind the series.
        shared: one projection for all variates, else one for each (``"apart"``, ``"together"``).
        tokens: names of the extra tokens in front of a variate's patches (``"cls"``).
        positions: ``""``, ``"learned"``, or ``"fixed"`` (sines and cosines that are stored and not trained).
        width: axis name of the stream.
        rows: the extent that says how long a series is.
    """

    kind: ClassVar[str] = "stem.series"
    cost_form: ClassVar[str] = "variates ⌊(T + pad - patch) / stride + 1⌋ patch D"
    constraints: ClassVar[tuple[str, ...]] = ("a series is at least as long as a patch", "as many variates as stated")
    local_axes: ClassVar[Mapping[str, frozenset[str]]] = {"positions": frozenset()}
    papers: ClassVar[tuple[int, ...]] = (21, 23, 58, 132, 137, 161, 178, 217, 223, 233)

    variates: int
    patch: int
    stride: int
    form: str = "apart"
    pad: int = 0
    shared: bool = True
    tokens: tuple[str, ...] = ()
    positions: str = ""
    width: str = "s0.width"
    rows: str = "series_length"

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``project`` (one or one per variate), extra tokens, ``position`` table."""
        width = dim(self.width)
        parts: list[Part] = []
        if self.form == "joint":
            parts.append(Linear("project", width, dim(self.variates, self.patch)))
        else:
            parts += projections("project", width, dim(self.patch), self.variates, self.shared)
        parts += [Vector(name, (width,), (Role.PRODUCES,)) for name in self.tokens]
        if self.positions:
            dims, roles = (site.dim("positions"), width), (Role.INDEX, Role.PRODUCES)
            fixed = self.positions == "fixed"
            kind, init = (Kind.BUFFER, "sincos") if fixed else (Kind.PARAMETER, "normal")
            parts.append(Vector("position", dims, roles, init, kind))
        return tuple(parts)

    def out(self, site: Site) -> Dim:
        """The stream width."""
        return dim(self.width)

    def feeds(self, site: Site, name: str) -> Mapping[str, Feed]:
        """Rows of all variates."""
        return {name: Feed((self.rows, self.variates))}

    def patches(self, rows: int) -> int:
        """Patches of a variate."""
        return (rows + self.pad - self.patch) // self.stride + 1

    def out_flow(self, site: Site, flow: Flow) -> Flow:
        """A row of the grid for each variate (one where they are joint); apart, also a sequence for each."""
        variates = 1 if self.form == "joint" else self.variates
        grid = (variates, self.patches(flow.tokens) + len(self.tokens))
        return Flow(grid[0] * grid[1], grid, variates if self.form == "apart" else 1)

    def calls(self, part: Part, flow: Flow) -> int:
        """Once per patch that is projected with it."""
        users = self.variates if self.shared and self.form != "joint" else 1
        return users * self.patches(flow.tokens)

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.series_samples import on_series

        return (
            on_series(stem=cls(variates=3, patch=4, stride=3, pad=2, tokens=("cls",), positions="learned")),
            on_series(stem=cls(variates=3, patch=4, stride=4, shared=False, positions="fixed")),
            on_series(stem=cls(variates=3, patch=4, stride=2, form="joint")),
            on_series(stem=cls(variates=3, patch=24, stride=24, form="together")),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, L, V) → (B × V, P, D), (B, V × P, D) or (B, P, D)."""
        import torch

        patches_BPVL = self._patches(x)
        if self.form == "joint":
            tokens = m.project(patches_BPVL.flatten(2)).unsqueeze(1)
        elif self.shared:
            tokens = m.project(patches_BPVL.transpose(1, 2))
        else:
            each = [getattr(m, f"project{i}")(patches_BPVL[:, :, i]) for i in range(self.variates)]
            tokens = torch.stack(each, dim=1)
        extra = [getattr(m, name).expand(*tokens.shape[:2], 1, -1) for name in self.tokens]
        x_BVPD = torch.cat((*extra, tokens), dim=2) if extra else tokens
        if self.positions:
            x_BVPD = x_BVPD + m.position
        return x_BVPD.flatten(0, 1) if self.form == "apart" else x_BVPD.flatten(1, 2)

    def _patches(self, x_BLV: Tensor) -> Tensor:
        """(B, L, V) → (B, P, V, patch)."""
        import torch

        if self.pad:
            x_BLV = torch.cat((x_BLV, x_BLV[:, -1:].expand(-1, self.pad, -1)), dim=1)
        first = (x_BLV.shape[1] - self.patch) % self.stride
        return x_BLV[:, first:].unfold(1, self.patch, self.stride)
