"""Random changes of training images that keep their class: shifts and mirror images.

Legend: `B` batch, `C` channels, `H` height, `W` width.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archtool.data.batches import Batch
from archtool.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """``shift`` pixels at most in each direction (the border is repeated); ``flip`` mirrors half the images."""

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise UsageError(f"images shifted by {self.shift} pixels", "give 0 or more")

    def __call__(self, batch: Batch, generator: "torch.Generator") -> Batch:
        """The batch with changed ``pixel_values``; other data is returned as it is."""
        if "pixel_values" not in batch.inputs or not (self.shift or self.flip):
            return batch
        x_BCHW = batch.inputs["pixel_values"]
        if self.shift:
            x_BCHW = shifted(x_BCHW, self.shift, generator)
        if self.flip:
            x_BCHW = flipped(x_BCHW, generator)
        return replace(batch, inputs={**batch.inputs, "pixel_values": x_BCHW})


def shifted(x_BCHW: "Tensor", most: int, generator: "torch.Generator") -> "Tensor":
    """Each image moved by its own (down, right) in ``-most..most``; pixels beyond the border repeat it."""
    import torch

    count, _, height, width = x_BCHW.shape
    moves_2B1 = torch.randint(-most, most + 1, (2, count, 1), generator=generator).to(x_BCHW.device)
    rows_BH = (torch.arange(height, device=x_BCHW.device) - moves_2B1[0]).clamp(0, height - 1)
    columns_BW = (torch.arange(width, device=x_BCHW.device) - moves_2B1[1]).clamp(0, width - 1)
    images_B11 = torch.arange(count, device=x_BCHW.device)[:, None, None]
    return x_BCHW[images_B11, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flipped(x_BCHW: "Tensor", generator: "torch.Generator") -> "Tensor":
    """Each image mirrored left to right with probability one half."""
    import torch

    mirror_B = (torch.rand(len(x_BCHW), generator=generator) < 0.5).to(x_BCHW.device)
    return torch.where(mirror_B[:, None, None, None], x_BCHW.flip(-1), x_BCHW)
