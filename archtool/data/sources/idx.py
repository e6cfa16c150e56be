"""idx files (MNIST's format), gzipped or not: big-endian magic ``0 0 8 ndim``, ndim int32 sizes, bytes."""

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.columns import Dense
from archtool.data.raw import Images
from archtool.data.spec import DataSpec
from archtool.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_idx(path: Path, spec: DataSpec) -> Images:
    """The images of an idx3 file with the labels of the idx1 file beside it.

    ``train-images-idx3-ubyte.gz`` goes with ``train-labels-idx1-ubyte.gz``.

    Raises:
        InputError: not idx, truncated, no labels file, or counts that differ.
    """
    images = read_array(path)
    if images.ndim not in (3, 4):
        raise InputError(f"{path}: {images.ndim} axes, images have 3 or 4", "give the images file")
    if len(images) == 0:
        raise InputError(f"{path}: no rows", "the file holds no images")
    if not spec.labelled:
        return Images(path, Dense(images), None)
    labels = read_array(_labels_beside(path)).astype("int64")
    if labels.shape != (len(images),):
        raise InputError(f"{path}: {len(images)} images and labels of shape {labels.shape}", "check the pair")
    return Images(path, Dense(images), labels, spec.classes)


def read_array(path: Path) -> "NDArray[Any]":
    """The unsigned bytes of an idx file in their shape."""
    import numpy as np

    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a complete gzip file ({error})", "download it again") from error
    if content[:3] != b"\0\0\x08":
        raise InputError(f"{path}: not an idx file of unsigned bytes", "MNIST-style files begin with 0 0 8")
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    begin = 4 + 4 * axes
    if len(content) - begin != math.prod(shape):
        what = f"{path}: {len(content) - begin} bytes where shape {shape} needs {math.prod(shape)}"
        raise InputError(what, "the file is truncated or damaged")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def _labels_beside(path: Path) -> Path:
    name = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    beside = path.with_name(name)
    if name == path.name or not beside.is_file():
        raise InputError(f"{path}: no labels file {name} beside it", "put images and labels in one folder")
    return beside
