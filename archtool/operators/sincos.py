"""A table of sines and cosines as positions that are stored and not trained (Vaswani et al. 2017, section 3.5).

Centred and brought to a standard deviation of 0.1, as PatchTST does, so that it does not outweigh the tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SPREAD = 0.1


def sincos_table(positions: int, width: int) -> Tensor:
    """(positions, width): sines in the even columns, cosines in the odd ones."""
    import torch

    rates = torch.exp(torch.arange(0, width, 2) * -(math.log(10000.0) / width))
    angles = torch.arange(positions).unsqueeze(1) * rates
    table = torch.stack((torch.sin(angles), torch.cos(angles)), dim=-1).flatten(1)[:, :width]
    centred = table - table.mean()
    return centred * (SPREAD / centred.std())
