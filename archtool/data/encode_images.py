"""Pixels to normalised float tensors (C, H, W), with torch only.

Legend: `H` height, `W` width, `C` channels.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import archtool.data.spec as spec_module
from archtool.data.columns import Column, Dense, ImageFiles, Mapped
from archtool.data.dataset import Data, Padding
from archtool.data.raw import Images
from archtool.data.spec import DataSpec, ImagePreprocess
from archtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # PIL's numbers
USABLE = ("nearest", "bilinear", "bicubic")
LUMINANCE = (0.299, 0.587, 0.114)


def encode_images(images: Images, spec: DataSpec, folder: Path | None) -> Data:
    """Images as ``pixel_values`` (C, H, W) float32, made when a batch is read, and class ids."""
    import numpy as np

    stated = spec.preprocess if isinstance(spec.preprocess, ImagePreprocess) else read_processor(folder)
    _check(stated, images)
    targets: dict[str, Column] = {}
    if spec.labelled and images.labels is not None:
        targets["labels"] = Dense(images.labels)
    pixels = Mapped(images.pixels, lambda image: prepare(image, stated).numpy())
    resolved = replace(spec, preprocess=stated, classes=images.class_names)
    rows = np.arange(len(images))
    inputs = {"pixel_values": pixels}
    return Data(resolved, spec.task, inputs, targets, rows, Padding({}), None, images.class_names)


def prepare(image: "NDArray[Any]", preprocess: ImagePreprocess) -> "Tensor":
    """One image (H, W) or (H, W, C) in 0..255 to (C, H, W) float32.

    Resizing is antialiased, width first and then height, with whole grey levels after each, as PIL does it
    (releases of PIL differ in which axis they take first).
    """
    import torch

    image_CHW = _channels(torch.tensor(image, dtype=torch.float32), preprocess.channels)
    image_CHW = _crop(_resize(image_CHW, preprocess), preprocess.crop) * preprocess.rescale
    if preprocess.mean:
        image_CHW = image_CHW - torch.tensor(preprocess.mean).view(-1, 1, 1)
    if preprocess.std:
        image_CHW = image_CHW / torch.tensor(preprocess.std).view(-1, 1, 1)
    return image_CHW


def read_processor(folder: Path | None) -> ImagePreprocess:
    """What ``preprocessor_config.json`` of a folder says; plain scaling to 0..1 where there is none.

    Raises:
        InputError: a resampling filter that cannot be reproduced, or JSON that is not valid.
    """
    file = folder / "preprocessor_config.json" if folder else None
    if file is None or not file.is_file():
        return ImagePreprocess()
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not JSON ({error})", "state data.preprocess instead") from error
    size = values.get("size") if values.get("do_resize", True) else None
    crop = values.get("crop_size") if values.get("do_center_crop", False) else None
    normalise = values.get("do_normalize", True)
    mean = tuple(float(x) for x in values.get("image_mean") or ()) if normalise else ()
    std = tuple(float(x) for x in values.get("image_std") or ()) if normalise else ()
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    return ImagePreprocess(
        size=None if edge else _pair(size),
        shortest_edge=edge,
        crop=_pair(crop),
        resample=_filter(file, values.get("resample", 2)),
        channels=len(mean) or 3,
        rescale=float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0,
        mean=mean,
        std=std,
    )


def _pair(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _filter(file: Path, number: Any) -> str:
    name = RESAMPLE[number] if isinstance(number, int) and 0 <= number < len(RESAMPLE) else str(number)
    if name not in USABLE:
        hint = f"state data.preprocess with resample {', '.join(USABLE)}"
        raise InputError(f"{file}: resampling {name} is not available here", hint)
    return name


def _check(stated: ImagePreprocess, images: Images) -> None:
    if stated.resample not in USABLE:
        near = spec_module.did_you_mean(stated.resample, USABLE)
        raise UsageError(f"no resampling {stated.resample!r}", f"use one of {', '.join(USABLE)}{near}")
    if stated.channels not in (None, 1, 3):
        raise UsageError(f"images with {stated.channels} channels", "channels are 1 or 3")
    for name, values in (("mean", stated.mean), ("std", stated.std)):
        if stated.channels and len(values) not in (0, 1, stated.channels):
            raise UsageError(f"{name} has {len(values)} values for {stated.channels} channels")
    same = stated.size or stated.crop
    if not same and isinstance(images.pixels, ImageFiles) and len(set(_sizes(images.pixels))) > 1:
        raise InputError(f"{images.origin}: images differ in size", "state data.preprocess.size: [height, width]")


def _sizes(files: ImageFiles) -> list[tuple[int, int]]:
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    out = []
    for item in files.items:
        try:
            with Image.open(BytesIO(item) if isinstance(item, bytes) else item) as image:
                out.append(image.size)
        except (UnidentifiedImageError, OSError) as error:
            name = "an image" if isinstance(item, bytes) else item
            raise InputError(f"{name}: not a readable image ({error})", "remove or replace it") from error
    return out


def _channels(image: "Tensor", channels: int | None) -> "Tensor":
    """(C, H, W) with the wanted channels: grey is repeated, colours become their luminance."""
    import torch

    image_CHW = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
    have = image_CHW.shape[0]
    if channels is None or channels == have:
        return image_CHW
    if have == 1:
        return image_CHW.expand(channels, -1, -1)
    if channels == 1 and have == 3:
        return torch.einsum("c,chw->hw", torch.tensor(LUMINANCE), image_CHW)[None]
    raise InputError(f"images with {have} channels where {channels} are wanted", "convert them to RGB or grey")


def _resize(image_CHW: "Tensor", preprocess: ImagePreprocess) -> "Tensor":
    import torch.nn.functional as F

    height, width = image_CHW.shape[1:]
    size = preprocess.size
    if preprocess.shortest_edge:
        edge = preprocess.shortest_edge
        size = (edge * height // min(height, width), edge * width // min(height, width))
    if size is None or size == (height, width):
        return image_CHW
    if preprocess.resample == "nearest":
        return image_CHW[:, _nearest(height, size[0])][:, :, _nearest(width, size[1])]
    for axes in ((height, size[1]), size):  # width first, then height, whole grey levels after each
        out = F.interpolate(image_CHW[None], size=axes, mode=preprocess.resample, antialias=True)[0]
        image_CHW = (out + 0.5).floor().clamp(0, 255)
    return image_CHW


def _nearest(have: int, want: int) -> "Tensor":
    """Source indices nearest to the new pixels' centres, in integers: exact where floats would tie."""
    import torch

    return (2 * torch.arange(want) + 1) * have // (2 * want)


def _crop(image_CHW: "Tensor", crop: tuple[int, int] | None) -> "Tensor":
    """The centre; where the image is smaller, zeros surround it."""
    import torch.nn.functional as F

    if crop is None:
        return image_CHW
    height, width = image_CHW.shape[1:]
    lack_h, lack_w = max(crop[0] - height, 0), max(crop[1] - width, 0)
    padded = F.pad(image_CHW, (lack_w // 2, lack_w - lack_w // 2, lack_h // 2, lack_h - lack_h // 2))
    top, left = (padded.shape[1] - crop[0]) // 2, (padded.shape[2] - crop[1]) // 2
    return padded[:, top : top + crop[0], left : left + crop[1]]
