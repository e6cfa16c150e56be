"""Reversible instance normalisation: each series is scaled by its own statistics, which its forecast gets back.

Source: Kim et al. 2022 (RevIN); scaling by the mean absolute value as in GluonTS (Salinas et al. 2020, DeepAR).
Statistics are over the rows of one sample and variate, over those that ``past_observed_mask`` marks where it is given.

Legend: `B` batch, `L` rows, `V` variates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archtool.ir.axes import Dim, dim
from archtool.ir.operator import Operator, Site
from archtool.ir.parts import Part, Role, Vector

if TYPE_CHECKING:
    from torch import Tensor

    from archtool.ir.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class RevIn(Operator):
    """``(x - loc) / scale`` at the input; ``y * scale + loc`` where ``restore`` is set.

    Attributes:
        variates: how many a sample has.
        mode: ``"std"`` (mean and standard deviation) or ``"mean"`` (no shift; mean absolute value).
        eps: added to the variance (``"std"``), or the least scale (``"mean"``).
        affine: a learned gain and shift of each variate on the scaled series.
        restore: undo what the operator on the same input did.
        tie: place of that operator, whose gains are used (``"embed.scale"``).
    """

    kind: ClassVar[str] = "norm.revin"
    linear_in_length: ClassVar[bool] = True
    cost_form: ClassVar[str] = "0 (a few operations per value)"
    constraints: ClassVar[tuple[str, ...]] = ("what restores comes after what scales, on the same input",)
    papers: ClassVar[tuple[int, ...]] = (178,)

    variates: int
    mode: str = "std"
    eps: float = 1e-5
    affine: bool = False
    restore: bool = False
    tie: str = ""

    def parts(self, site: Site) -> tuple[Part, ...]:
        """``gain`` and ``shift`` of each variate, where they are learned."""
        if not self.affine:
            return ()
        dims, roles = (dim(self.variates),), (Role.ELEMENTWISE,)
        ties = {name: f"{self.tie}.{name}" if self.tie else "" for name in ("gain", "shift")}
        return (
            Vector("gain", dims, roles, "ones", tie=ties["gain"]),
            Vector("shift", dims, roles, "zeros", tie=ties["shift"]),
        )

    def out(self, site: Site) -> Dim:
        """The variates."""
        return dim(self.variates)

    def activation_elements(self, site: Any, flow: Any) -> int:
        """The centred series."""
        return int(flow.tokens) * self.variates

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """See `Operator.samples`."""
        from archtool.operators.series_samples import forecaster

        return (
            forecaster(scale=cls(variates=3, affine=True)),
            forecaster(scale=cls(variates=3, mode="mean", eps=1e-10)),
        )

    def forward(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        """(B, L, V) → (B, L, V)."""
        if self.restore:
            return self._restored(m, x, ctx)
        seen = ctx.inputs.get("past_observed_mask")
        loc, scale = absolute_mean(x, seen, self.eps) if self.mode == "mean" else moments(x, seen, self.eps)
        ctx.note(("revin", ctx.root), (loc, scale))
        scaled = (x - loc) / scale
        return scaled * m.gain + m.shift if self.affine else scaled

    def _restored(self, m: Any, x: Tensor, ctx: Any) -> Tensor:
        loc, scale = ctx.noted(("revin", ctx.root))
        if self.affine:
            x = (x - m.shift) / (m.gain + self.eps * self.eps)
        return x * scale + loc


def moments(x_BLV: Tensor, seen: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, 1, V) of the rows that are seen."""
    import torch

    if seen is None:
        variance, mean = torch.var_mean(x_BLV, dim=1, correction=0, keepdim=True)
        return mean, torch.sqrt(variance + eps)
    count = seen.sum(dim=1, keepdim=True).clamp_min(1.0)
    mean = (x_BLV * seen).sum(dim=1, keepdim=True) / count
    variance = (((x_BLV - mean) * seen) ** 2).sum(dim=1, keepdim=True) / count
    return mean, torch.sqrt(variance + eps)


def absolute_mean(x_BLV: Tensor, seen: Tensor | None, least: float) -> tuple[Tensor, Tensor]:
    """Zero and the mean absolute value (B, 1, V); where a sample shows nothing, that of the batch."""
    import torch

    if seen is None:
        scale = x_BLV.abs().mean(dim=1, keepdim=True)
    else:
        total, count = (x_BLV * seen).abs().sum(dim=1, keepdim=True), seen.sum(dim=1, keepdim=True)
        instead = total.sum(dim=0) / count.sum(dim=0).clamp_min(1)
        scale = torch.where(count > 0, total / count.clamp_min(1), instead)
    return torch.zeros_like(scale), scale.clamp_min(least)
