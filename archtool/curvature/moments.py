"""Sums of per-sample mask gradients, and what follows from them: Fisher, its error bar, predicted loss increase.

With g_iu the gradient of sample i's loss with respect to the mask of unit u (at one), the Fisher diagonal is
``F_u = 1/n Σ_i g_iu²`` and the second-order prediction of what removing u adds to the mean loss is ``½ F_u``; for a
set S of units of one axis ``½ 1ᵀ F_SS 1`` with the cross-products ``F_uv = 1/n Σ_i g_iu g_iv`` (Kwon et al. 2022,
eq. 6-8). ``n`` counts the terms of the loss (tokens, for a language model). NViT's variant squares the sums over
batches (Yang et al. 2023, eq. 4).

Legend: `B` batch, `U` units, `S` splits of the calibration data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = 8


@dataclass(frozen=True)
class Moments:
    """What is kept of the mask gradients of one axis.

    Attributes:
        squares_SU: Σ g² over the samples of each split (sample i is in split i mod S).
        terms_S: terms of the loss in each split.
        batches_U: Σ over batches of (Σ_i g_iu)².
        cross_UU: Σ_i g_iu g_iv, where it was asked for.
    """

    squares_SU: Tensor
    terms_S: Tensor
    batches_U: Tensor
    cross_UU: Tensor | None = None


def moments(g_BU: Tensor, terms_B: Tensor, places_B: Tensor, cross: bool = False, splits: int = SPLITS) -> Moments:
    """The sums over one batch, in float64; ``places_B`` are the samples' places in the data."""
    import torch

    g, split_B = g_BU.detach().double().cpu(), places_B.cpu() % splits
    squares = torch.zeros(splits, g.shape[1], dtype=torch.float64).index_add_(0, split_B, g.square())
    terms = torch.zeros(splits, dtype=torch.float64).index_add_(0, split_B, terms_B.double().cpu())
    return Moments(squares, terms, g.sum(0).square(), g.T @ g if cross else None)


def added(one: Moments | None, other: Moments) -> Moments:
    """The sums over both."""
    if one is None:
        return other
    cross = None if one.cross_UU is None or other.cross_UU is None else one.cross_UU + other.cross_UU
    terms = one.terms_S + other.terms_S
    return Moments(one.squares_SU + other.squares_SU, terms, one.batches_U + other.batches_U, cross)


def fisher(found: Moments) -> Tensor:
    """The Fisher diagonal (U,), per term of the loss."""
    return found.squares_SU.sum(0) / found.terms_S.sum()


def batch_fisher(found: Moments) -> Tensor:
    """NViT's: squares of batch sums (U,), per term of the loss."""
    return found.batches_U / found.terms_S.sum()


def cross_fisher(found: Moments) -> Tensor | None:
    """The Fisher block (U, U) of the axis, per term of the loss; None where it was not collected."""
    return None if found.cross_UU is None else found.cross_UU / found.terms_S.sum()


def stderr(found: Moments) -> Tensor:
    """The standard error (U,) of `fisher`, from its spread over the splits that have samples."""
    held = found.terms_S > 0
    each_SU = found.squares_SU[held] / found.terms_S[held, None]
    return each_SU.std(0, correction=1) / len(each_SU) ** 0.5


def increase(fisher_U: Tensor) -> Tensor:
    """The predicted increase of the mean loss when each unit alone is removed: ``½ F_u``."""
    return 0.5 * fisher_U
