"""A folder of images per class: ``FOLDER/<class>/<image>``."""

from pathlib import Path

from archtool.data.columns import ImageFiles
from archtool.data.raw import Images
from archtool.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def class_folders(path: Path) -> list[Path]:
    """Sub-folders that hold images, sorted by name."""
    return [entry for entry in sorted(path.iterdir()) if entry.is_dir() and _images(entry)]


def read_image_folder(path: Path, classes: tuple[str, ...]) -> Images:
    """Images by class in sorted order, decoded when needed; ``classes`` (else sorted names) give the ids.

    Raises:
        InputError: a class folder that ``classes`` does not list.
    """
    import numpy as np

    folders = class_folders(path)
    names = classes or tuple(folder.name for folder in folders)
    unknown = [folder.name for folder in folders if folder.name not in names]
    if unknown:
        raise InputError(f"{path}: folders that are no class: {', '.join(unknown)}", f"classes: {', '.join(names)}")
    files = [(file, names.index(folder.name)) for folder in folders for file in _images(folder)]
    labels = np.asarray([label for _, label in files], dtype=np.int64)
    return Images(path, ImageFiles([file for file, _ in files]), labels, names)


def _images(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
