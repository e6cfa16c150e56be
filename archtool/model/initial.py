"""Values before training, by the names that parts give to them (`archtool.ir.parts.TensorSpec.init`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STEPS = (1e-3, 1e-1)
"""Smallest and largest step of a state space before training (Gu and Dao 2023, section 3.6)."""


def initial(kind: str, shape: Sequence[int], std: float, generator: torch.Generator) -> Tensor:
    """A tensor of a kind: ``normal`` (of deviation ``std``), ``zeros``, ``ones``, ``step``, ``log_count``,
    ``orthogonal``, ``retention`` or ``sincos`` (a position table).
    """
    import torch

    from archtool.operators.sincos import sincos_table

    if kind == "normal":
        return torch.empty(shape).normal_(0.0, std, generator=generator)
    if kind == "step":
        low, high = map(math.log, STEPS)
        step = torch.exp(low + (high - low) * torch.rand(shape, generator=generator))
        return step + torch.log(-torch.expm1(-step))  # softplus of it is the step
    if kind == "log_count":
        return torch.arange(1.0, shape[-1] + 1).log().expand(shape).clone()
    if kind == "orthogonal":
        return _orthogonal(shape, generator)
    if kind == "sincos":
        return sincos_table(*shape)
    if kind == "retention":
        return 1 - torch.exp2(-5.0 - torch.arange(shape[0]))
    return torch.zeros(shape) if kind == "zeros" else torch.ones(shape)


def _orthogonal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Gaussian rows that are orthogonal in blocks of as many as there are columns (Choromanski et al. 2021)."""
    import torch

    rows, columns = shape
    blocks = torch.randn(-(-rows // columns), columns, columns, generator=generator)
    q, r = torch.linalg.qr(blocks)
    even = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]  # else the first entries would have one sign
    turned = even.transpose(1, 2).flatten(0, 1)[:rows]
    return turned * torch.randn(rows, columns, generator=generator).norm(dim=1, keepdim=True)
