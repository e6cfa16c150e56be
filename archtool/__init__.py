"""archtool: budget in, proven compact model out.

The Python API mirrors the command line: `archtool.api` has a function per verb. Those whose names are not also parts
of this package stand here too; each is imported only when it is used, so that ``import archtool`` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archtool.api import bench, build, extract, prune, quantize
    from archtool.model.checkpoint import Checkpoint

__version__ = "0.1.0"
__all__ = ["bench", "build", "extract", "load", "prune", "quantize"]


def load(path: str, names: str | None = None, allow_config: tuple[str, ...] = ()) -> "Checkpoint":
    """Open a model folder, file or hub id; ``names`` is a table of the file's own tensor names.

    Raises:
        InputError: unknown architecture or feature, or files that do not hold exactly its tensors.
    """
    from pathlib import Path

    if names is not None:
        from archtool.config.name_table import load_with_names

        return load_with_names(Path(path), Path(names))
    from archtool.model.load import load as load_checkpoint

    return load_checkpoint(path, allow_config)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("archtool.api"), name)
    raise AttributeError(f"module 'archtool' has no attribute {name!r}")
