"""Random changes of training images: moved, mirrored, turned, zoomed, erased, recoloured, mixed with another image.

Each follows from the example's own seed (`archtool.train.draws`), so that an image is changed alike in any batch.
Mixing (Zhang et al. 2018, mixup; Yun et al. 2019, CutMix) takes another image of the data and leaves two labels with
their shares. Text and series are returned as they are. Legend: `B` batch, `C` channels, `H` height, `W` width.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from archtool.data.batches import Batch
from archtool.errors import UsageError
from archtool.train.draws import betas, integers, uniforms

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

IMAGES = "pixel_values"
ERASED_AREA = (0.02, 0.2)
ERASED_ASPECT = (0.3, 1 / 0.3)


class Examples(Protocol):
    """The data as it is."""

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def take(self, positions: "NDArray[Any]") -> Batch:
        """Those at these positions."""
        ...


@dataclass(frozen=True)
class Augment:
    """What is done to images; 0 and False: nothing.

    Attributes:
        shift: pixels at most in each direction; the border is repeated.
        crop: the same with zeros behind the border (a random crop of the padded image).
        flip: mirror half of the images.
        rotate: degrees at most, either way.
        zoom: share at most by which the image grows or shrinks.
        erase: probability that a rectangle of 2 to 20 % becomes zero.
        brightness: share at most of the image's deviation that is added or taken away.
        contrast: share at most by which the distance from the image's mean grows or shrinks.
        mixup / cutmix: parameter of the Beta distribution of the other image's share; with both, half of the images
            are mixed either way.
    """

    shift: int = 0
    crop: int = 0
    flip: bool = False
    rotate: float = 0.0
    zoom: float = 0.0
    erase: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0:
                raise UsageError(f"{name} is {value}", "give 0 or more")
        for name in ("erase", "zoom"):
            if getattr(self, name) > 1 - (name == "zoom") * 0.01:
                raise UsageError(f"{name} is {getattr(self, name)}", "it is a share below 1")

    def __call__(self, batch: Batch, seeds_B: "NDArray[Any]", examples: Examples) -> Batch:
        """The batch with changed images; ``examples`` are there to mix with."""
        if IMAGES not in batch.inputs or self == Augment():
            return batch
        batch = self._mixed(batch, seeds_B, examples)
        return _with_images(batch, self._changed(batch.inputs[IMAGES], seeds_B))

    def _changed(self, x_BCHW: "Tensor", seeds_B: "NDArray[Any]") -> "Tensor":
        if self.shift:
            x_BCHW = moved(x_BCHW, integers(seeds_B, "shift", 2, -self.shift, self.shift), repeat=True)
        if self.crop:
            x_BCHW = moved(x_BCHW, integers(seeds_B, "crop", 2, -self.crop, self.crop), repeat=False)
        if self.rotate or self.zoom:
            turn_B2 = 2 * uniforms(seeds_B, "turn", 2) - 1
            x_BCHW = turned(x_BCHW, turn_B2[:, 0] * math.radians(self.rotate), 1 + turn_B2[:, 1] * self.zoom)
        if self.flip:
            mirror_B = (uniforms(seeds_B, "flip")[:, 0] < 0.5).to(x_BCHW.device)
            x_BCHW = x_BCHW.flip(-1).where(mirror_B[:, None, None, None], x_BCHW)
        if self.brightness or self.contrast:
            x_BCHW = self._recoloured(x_BCHW, seeds_B)
        return self._erased(x_BCHW, seeds_B) if self.erase else x_BCHW

    def _recoloured(self, x_BCHW: "Tensor", seeds_B: "NDArray[Any]") -> "Tensor":
        by_B2 = (2 * uniforms(seeds_B, "colour", 2) - 1).to(x_BCHW)
        wide_BCHW = x_BCHW.double()  # so that the sums' order, which follows the batch, does not show
        mean_B111 = wide_BCHW.mean((1, 2, 3), keepdim=True).to(x_BCHW)
        std_B111 = wide_BCHW.std((1, 2, 3), keepdim=True).to(x_BCHW)
        light_B111, contrast_B111 = (by_B2[:, i, None, None, None] for i in (0, 1))
        scaled = (x_BCHW - mean_B111) * (1 + contrast_B111 * self.contrast)
        return scaled + mean_B111 + light_B111 * self.brightness * std_B111

    def _erased(self, x_BCHW: "Tensor", seeds_B: "NDArray[Any]") -> "Tensor":
        drawn_B5 = uniforms(seeds_B, "erase", 5)
        area_B = ERASED_AREA[0] + drawn_B5[:, 1] * (ERASED_AREA[1] - ERASED_AREA[0])
        low, high = (math.log(side) for side in ERASED_ASPECT)
        aspect_B = (low + drawn_B5[:, 2] * (high - low)).exp()
        inside_BHW = rectangles(area_B, aspect_B, drawn_B5[:, 3:], x_BCHW.shape[2:])
        erased_BHW = inside_BHW & (drawn_B5[:, 0] < self.erase)[:, None, None]
        return x_BCHW.masked_fill(erased_BHW[:, None].to(x_BCHW.device), 0.0)

    def _mixed(self, batch: Batch, seeds_B: "NDArray[Any]", examples: Examples) -> Batch:
        if not (self.mixup or self.cutmix):
            return batch
        x_BCHW = batch.inputs[IMAGES]
        cut_B = uniforms(seeds_B, "mix")[:, 0] < (0.5 if self.mixup and self.cutmix else float(bool(self.cutmix)))
        own_B = betas(seeds_B, "mixup", self.mixup or 1.0)
        other = examples.take(_partners(seeds_B, len(examples)))
        inside_BHW, area_B = _cut(seeds_B, self.cutmix or 1.0, x_BCHW.shape[2:])
        weight_BHW = (1 - inside_BHW.double()).where(cut_B[:, None, None], own_B[:, None, None])
        share_B = (1 - area_B).where(cut_B, own_B)
        weight_B1HW = weight_BHW[:, None].to(x_BCHW)
        mixed = batch.inputs[IMAGES] * weight_B1HW + other.inputs[IMAGES] * (1 - weight_B1HW)
        return _with_images(_with_labels(batch, other, share_B), mixed)


def _partners(seeds_B: "NDArray[Any]", count: int) -> "NDArray[Any]":
    found: NDArray[Any] = integers(seeds_B, "partner", 1, 0, count - 1)[:, 0].numpy()
    return found


def _cut(seeds_B: "NDArray[Any]", alpha: float, size: "Sequence[int]") -> "tuple[Tensor, Tensor]":
    """The rectangle (B, H, W) of the other image, and the share of the pixels that it has."""
    import torch

    area_B = 1 - betas(seeds_B, "cutmix", alpha)
    inside_BHW = rectangles(area_B, torch.ones_like(area_B), uniforms(seeds_B, "cut", 2), size)
    return inside_BHW, inside_BHW.double().mean((1, 2))


def _with_images(batch: Batch, x_BCHW: "Tensor") -> Batch:
    return replace(batch, inputs={**batch.inputs, IMAGES: x_BCHW})


def _with_labels(batch: Batch, other: Batch, share_B: "Tensor") -> Batch:
    """The other images' labels and the own labels' shares, beside the own labels."""
    if "labels" not in batch.targets:
        return batch
    labels = batch.targets["labels"]
    mixed = {"other_labels": other.targets["labels"], "label_share": share_B.float().to(labels.device)}
    return replace(batch, targets={**batch.targets, **mixed})


def moved(x_BCHW: "Tensor", by_B2: "Tensor", repeat: bool) -> "Tensor":
    """Each image moved by its own (down, right); beyond the border it is repeated, or there are zeros."""
    import torch

    count, _, height, width = x_BCHW.shape
    by_B2 = by_B2.to(x_BCHW.device)
    rows_BH = torch.arange(height, device=x_BCHW.device) - by_B2[:, :1]
    columns_BW = torch.arange(width, device=x_BCHW.device) - by_B2[:, 1:]
    near_BH, near_BW = rows_BH.clamp(0, height - 1), columns_BW.clamp(0, width - 1)
    images_B11 = torch.arange(count, device=x_BCHW.device)[:, None, None]
    taken = x_BCHW[images_B11, :, near_BH[:, :, None], near_BW[:, None, :]].permute(0, 3, 1, 2).contiguous()
    if repeat:
        return taken
    real_BHW = (rows_BH == near_BH)[:, :, None] & (columns_BW == near_BW)[:, None, :]
    return taken.masked_fill(~real_BHW[:, None], 0.0)


def turned(x_BCHW: "Tensor", angle_B: "Tensor", scale_B: "Tensor") -> "Tensor":
    """Each image turned by its angle (radians) and magnified by its scale, with bilinear sampling; borders repeat."""
    import torch
    import torch.nn.functional as F

    cos_B, sin_B, zero_B = angle_B.cos() / scale_B, angle_B.sin() / scale_B, torch.zeros_like(angle_B)
    aspect = x_BCHW.shape[3] / x_BCHW.shape[2]
    rows = (torch.stack((cos_B, -sin_B / aspect, zero_B), 1), torch.stack((sin_B * aspect, cos_B, zero_B), 1))
    theta_B23 = torch.stack(rows, 1).to(x_BCHW)
    grid = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, padding_mode="border", align_corners=False)


def rectangles(area_B: "Tensor", aspect_B: "Tensor", centre_B2: "Tensor", size: "Sequence[int]") -> "Tensor":
    """True (B, H, W) inside a rectangle of that share of the image, height over width and centre, cut at the border."""
    import torch

    height, width = size
    tall_B = (area_B * height * width * aspect_B).sqrt().round().clamp(max=height)
    wide_B = (area_B * height * width / aspect_B).sqrt().round().clamp(max=width)
    top_B = (centre_B2[:, 0] * height - tall_B / 2).round()
    left_B = (centre_B2[:, 1] * width - wide_B / 2).round()
    rows_BH = torch.arange(height)[None] - top_B[:, None]
    columns_BW = torch.arange(width)[None] - left_B[:, None]
    inside_BH = (rows_BH >= 0) & (rows_BH < tall_B[:, None])
    inside_BW = (columns_BW >= 0) & (columns_BW < wide_B[:, None])
    return inside_BH[:, :, None] & inside_BW[:, None, :]
