"""What makes two runs the same: the resolved recipe and the content of its inputs.

Where an input lies does not matter, what is in it does. Quality gates do not change the result and are left
out. Files up to 16 MB are hashed whole; of larger ones the size and 64 evenly spaced blocks are
(``sampled:``), so that a model of many gigabytes costs no second reading.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archtool.config.load import DATA_PATHS, input_options, split_name
from archtool.config.recipe import Recipe

WHOLE_BYTES = 16_000_000
BLOCKS = 64
BLOCK_BYTES = 65_536
NOT_IN_RESULT = ("require", "lock")


def input_paths(recipe: Recipe) -> dict[str, Path]:
    """Every input of the recipe that is a local file or folder, by recipe key."""
    found: dict[str, Any] = {f"data.{key}": (recipe.data or {}).get(key) for key in DATA_PATHS}
    if recipe.model is not None:
        found |= {f"model.{key}": getattr(recipe.model, key) for key in ("path", "build", "names")}
    for (step, verb, name), words in input_options(recipe).items():
        found |= {f"steps.{step}.{verb}.{name}{f'.{n}' if n else ''}": word for n, word in enumerate(words)}
    files = {key: Path(split_name(text)[0]) for key, text in found.items() if isinstance(text, str)}
    return {key: path for key, path in files.items() if path.exists()}


def input_hashes(recipe: Recipe) -> dict[str, str]:
    """The content hash of every local input, by recipe key."""
    return {key: content_hash(path) for key, path in input_paths(recipe).items()}


def content_hash(path: Path) -> str:
    """The hash of a file, or of all files of a folder with their names."""
    if path.is_file():
        return _file_hash(path)
    digest = hashlib.sha256()
    sampled = False
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        inner = _file_hash(file)
        sampled |= inner.startswith("sampled:")
        digest.update(f"{file.relative_to(path).as_posix()}\0{inner}\n".encode())
    return f"{'sampled' if sampled else 'sha256'}:{digest.hexdigest()}"


def keys(recipe: Recipe, inputs: Mapping[str, str]) -> dict[str, str]:
    """Everything that decides the result: dotted recipe key → value, with contents for paths."""
    resolved = {k: v for k, v in recipe.resolved().items() if k not in NOT_IN_RESULT}
    found = {key: json.dumps(value, sort_keys=True) for key, value in _flat(resolved)}
    return found | dict(inputs)


def fingerprint(recipe: Recipe, inputs: Mapping[str, str]) -> str:
    """The run's identity, as hexadecimal SHA-256 of `keys`."""
    text = json.dumps(keys(recipe, inputs), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differing(mine: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The keys whose values differ, with both values."""
    names = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
    return [f"{key} (there {_short(other.get(key))}, here {_short(mine.get(key))})" for key in names]


def _short(value: str | None) -> str:
    text = "not given" if value is None else value
    return text if len(text) <= 48 else text[:45] + "..."


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    children = list(inner)
    if not children:
        yield prefix, value
    for key, child in children:
        yield from _flat(child, f"{prefix}.{key}" if prefix else str(key))


def _file_hash(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        digest = hashlib.sha256(str(size).encode())
        for block in range(BLOCKS):
            file.seek(block * (size - BLOCK_BYTES) // (BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
    return f"sampled:{digest.hexdigest()}"
