"""numpy archives with images: ``x``/``images`` (N, H, W[, C]) and ``y``/``labels`` (N,)."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.columns import Dense
from archtool.data.raw import Images
from archtool.data.spec import DataSpec, did_you_mean
from archtool.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES: Mapping[str, tuple[str, ...]] = {"image": ("x", "images"), "label": ("y", "labels")}


def read_npz(path: Path, spec: DataSpec) -> Images:
    """The images of an npz file; ``columns`` may name other arrays for ``image`` and ``label``.

    Floats in 0..1 are brought to 0..255.

    Raises:
        InputError: arrays missing, counts that differ, no rows, or pixels that are not 0..1 or 0..255.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable npz file ({error})", "write it with numpy.savez") from error
    pixels = _pixels(path, _array(path, arrays, "image", spec))
    labels = _array(path, arrays, "label", spec).astype("int64").reshape(-1) if spec.labelled else None
    if labels is not None and len(labels) != len(pixels):
        raise InputError(f"{path}: {len(pixels)} images and {len(labels)} labels", "check the arrays")
    return Images(path, Dense(pixels), labels, spec.classes)


def _array(path: Path, arrays: "Mapping[str, NDArray[Any]]", role: str, spec: DataSpec) -> "NDArray[Any]":
    wanted = dict(spec.columns).get(role)
    for name in (wanted,) if wanted else NAMES[role]:
        if name in arrays:
            return arrays[name]
    near = did_you_mean(wanted or role, arrays)
    what = f"{path}: no array {wanted or ' or '.join(NAMES[role])} for {role}"
    raise InputError(what, f"the arrays are {', '.join(arrays)}{near}; map them with --columns {role}=NAME")


def _pixels(path: Path, pixels: "NDArray[Any]") -> "NDArray[Any]":
    if pixels.ndim not in (3, 4):
        raise InputError(f"{path}: images of shape {pixels.shape}", "shapes are (N, H, W) or (N, H, W, C)")
    if len(pixels) == 0:
        raise InputError(f"{path}: no rows", "the arrays are empty")
    if pixels.dtype.kind not in "uif":
        raise InputError(f"{path}: pixels of type {pixels.dtype}", "use uint8, or floats in 0..1")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 255):
        raise InputError(f"{path}: pixels from {low:g} to {high:g}", "store them in 0..255 or 0..1, unnormalised")
    if pixels.dtype.kind == "f" and high <= 1:
        return (pixels * 255).astype("float32")
    return pixels
