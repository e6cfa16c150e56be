"""What must be shipped, to the byte: weight files, the graph and its external data; sidecars apart."""

from dataclasses import dataclass
from pathlib import Path

from archtool.errors import InputError

_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".xml", ".npz"}
_DATA_ENDINGS = (".onnx.data", ".onnx_data")
_INDEX_ENDING = ".index.json"


@dataclass(frozen=True)
class ShippedSize:
    """Bytes of a model folder.

    Args:
        weights: file → bytes of weights, graphs, external data and shard indices: what ``size=`` means.
        sidecars: file → bytes of everything else (configuration, tokenizer, model card, code).
    """

    weights: dict[str, int]
    sidecars: dict[str, int]

    @property
    def size_bytes(self) -> int:
        """Bytes that a size budget counts."""
        return sum(self.weights.values())

    @property
    def sidecar_bytes(self) -> int:
        """Bytes of the other files."""
        return sum(self.sidecars.values())


def measure_size(model: Path) -> ShippedSize:
    """Sizes of the files of a model folder (or of one file), by path relative to it.

    Raises:
        InputError: nothing is there, no weights are in it, or an ONNX graph names data that is missing.
    """
    if not model.exists():
        raise InputError(f"{model} does not exist")
    root = model if model.is_dir() else model.parent
    files = sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]
    external = {data for path in files if path.suffix == ".onnx" for data in _find_external_data(path)}
    files = sorted({*files, *external})
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in files}
    weights = {path.relative_to(root).as_posix() for path in files if path in external or _is_weight(path)}
    if not weights:
        raise InputError(f"{model} holds no weight file", hint=f"known endings: {', '.join(sorted(_WEIGHT_SUFFIXES))}")
    return ShippedSize(
        {name: size for name, size in sizes.items() if name in weights},
        {name: size for name, size in sizes.items() if name not in weights},
    )


def _is_weight(path: Path) -> bool:
    if path.name.endswith((*_DATA_ENDINGS, _INDEX_ENDING)):
        return True
    is_training_state = path.name.startswith(("training_args", "optimizer", "scheduler"))
    return path.suffix in _WEIGHT_SUFFIXES and not is_training_state


def _find_external_data(graph: Path) -> set[Path]:
    """The files that an ONNX graph's tensors live in."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(graph, load_external_data=False)
    entries = [tensor.external_data for tensor in model.graph.initializer if uses_external_data(tensor)]
    names = {item.value for entry in entries for item in entry if item.key == "location"}
    missing = sorted(name for name in names if not (graph.parent / name).is_file())
    if missing:
        raise InputError(f"{graph} keeps weights in {', '.join(missing)}, which is not there")
    outside = sorted(name for name in names if Path(name).is_absolute() or ".." in Path(name).parts)
    if outside:
        raise InputError(f"{graph} keeps weights outside its folder, in {', '.join(outside)}")
    return {graph.parent / name for name in names}
