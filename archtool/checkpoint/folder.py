"""Model folders as Hugging Face and sentence-transformers lay them out: configuration and sidecar files."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from archtool.checkpoint.atomic import guard_disk
from archtool.errors import InputError, Where

_SIDECARS = (
    "tokenizer*",
    "vocab*",
    "*_vocabulary.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.spm",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "chat_template*",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
_MODULE_FOLDER = re.compile(r"\d+_\w+")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "chat_template*")
_POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Pooling:
    """How a sentence-transformers folder makes one vector of the token vectors.

    ``mode`` is ``mean``, ``cls`` or ``max``; ``normalize`` says whether the vector gets unit length;
    ``others`` names modules of the folder that are none of transformer, pooling and normalize.
    """

    mode: str
    normalize: bool
    max_seq_length: int | None
    others: tuple[str, ...] = ()


def resolve(path_or_id: str) -> Path:
    """The local folder or file that a path or a hub id names; a hub id is downloaded (or found in the cache).

    Raises:
        InputError: neither a local path nor a model that can be reached.
    """
    path = Path(path_or_id).expanduser()
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(path_or_id):
        raise InputError(
            f"{path_or_id} does not exist.", hint=_near(path) + "Give a model folder, a weight file or a hub id."
        )
    return _download(path_or_id)


def _near(path: Path) -> str:
    """``Did you mean X? `` for something beside ``path`` of nearly that name."""
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    close = get_close_matches(path.name, beside, 1)
    return f"Did you mean {path.parent / close[0]}? " if close else ""


def _download(hub_id: str) -> Path:
    """Fetch weights (safetensors, else pickles), configuration and sidecars of a hub model; never code."""
    import huggingface_hub

    def fetch(*weights: str) -> Path:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=[*_HUB_FILES, *weights]))

    try:
        folder = fetch("*.safetensors")
        return folder if any(folder.glob("*.safetensors")) else fetch("pytorch_model*.bin")
    except (OSError, ValueError, RuntimeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{hub_id} is neither a local path nor a model that the hub gives now: {first_line}",
            hint=_near(Path(hub_id))
            + "Check the spelling and the network, or give the path of a downloaded model folder.",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: missing, unreadable or not a JSON object, with the line and column.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        table = json.loads(text)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing.", hint="Give the folder that `save_pretrained` wrote.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}).", hint="Download it again.") from error
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1] if error.lineno <= len(text.splitlines()) else ""
        raise InputError(
            f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}.",
            hint="Correct the file there or download it again.",
            where=Where(path, error.lineno, error.colno, line),
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.", hint="Download it again.") from error
    if not isinstance(table, dict):
        raise InputError(f"{path} is not a JSON object.", hint="Download it again.", where=Where(path, 1, 1))
    return table


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a model folder; raises InputError as `read_json` does."""
    return read_json(Path(folder) / "config.json")


def sidecars(folder: Path) -> tuple[str, ...]:
    """Relative names of the files that travel with a model, sorted; an empty module folder ends in ``/``.

    Tokenizer, processor, generation and sentence-transformers files; never Python code, never the weights
    and configuration of the model itself.
    """
    found: list[str] = []
    for entry in sorted(Path(folder).iterdir()):
        if entry.is_dir() and _MODULE_FOLDER.fullmatch(entry.name):
            found.extend(sorted(_module_files(entry)) or [f"{entry.name}/"])
        elif entry.is_file() and entry.suffix != ".py" and any(fnmatch(entry.name, p) for p in _SIDECARS):
            found.append(entry.name)
    return tuple(found)


def _module_files(module: Path) -> Iterator[str]:
    for root, _, files in os.walk(module):
        for name in files:
            if not name.endswith(".py"):
                yield (Path(root) / name).relative_to(module.parent).as_posix()


def copy_sidecars(src: Path, dst: Path) -> tuple[str, ...]:
    """Copy the sidecar files of one folder to another, existing one, byte for byte; returns their names."""
    names = sidecars(src)
    for name in names:
        target = Path(dst) / name
        with guard_disk(target):
            if name.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(src) / name, target)
    return names


def pooling(folder: Path) -> Pooling | None:
    """How a sentence-transformers folder pools, or None if it is not one.

    Raises:
        InputError: the files are damaged, or pool in a way that is none of mean, cls and max.
    """
    modules = _modules(Path(folder))
    kinds = tuple(kind for _, kind in modules)
    places = [path for path, kind in modules if kind == "Pooling"]
    if not places:
        return None
    known = ("Transformer", "Pooling", "Normalize")
    return Pooling(
        mode=_pooling_mode(Path(folder) / places[0] / "config.json"),
        normalize="Normalize" in kinds,
        max_seq_length=_max_seq_length(Path(folder) / "sentence_bert_config.json"),
        others=tuple(kind for kind in kinds if kind not in known),
    )


def _modules(folder: Path) -> list[tuple[str, str]]:
    """(path, class name) of each module; without ``modules.json``, pooling alone if its folder is there."""
    path = folder / "modules.json"
    if not path.is_file():
        return [("1_Pooling", "Pooling")] if (folder / "1_Pooling" / "config.json").is_file() else []
    try:
        entries = json.loads(path.read_bytes())
        return [(_inside(str(entry["path"])), str(entry["type"]).rsplit(".", 1)[-1]) for entry in entries]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a list of modules: {error}.", hint="Download it again.") from error


def _inside(name: str) -> str:
    """A module folder's name; raises ValueError for one that leaves the model folder."""
    if name == ".." or any(char in name for char in "/\\\0"):
        raise ValueError(f"{name!r} points outside the folder")
    return name


def _pooling_mode(path: Path) -> str:
    config = read_json(path)
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    spelled = [_POOLING_MODES.get(key, key) for key in modes]
    if not spelled and isinstance(config.get("pooling_mode"), str):
        spelled = [config["pooling_mode"]]
    if len(spelled) != 1 or spelled[0] not in _POOLING_MODES.values():
        raise InputError(
            f"{path} pools by {' and '.join(spelled) or 'nothing'}.",
            hint="archtool reads folders that pool by exactly one of mean, cls and max.",
        )
    return spelled[0]


def _max_seq_length(path: Path) -> int | None:
    value = read_json(path).get("max_seq_length") if path.is_file() else None
    return value if isinstance(value, int) else None
