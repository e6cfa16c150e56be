"""Whether a configuration says exactly an architecture: read it back and compare; ask transformers' own class."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from archtool.errors import ArchtoolError
from archtool.export.base import DialectRefused
from archtool.families.registry import family_for
from archtool.ir.architecture import Architecture
from archtool.ir.codec import to_json
from archtool.model.checkpoint import Checkpoint
from archtool.model.save import file_shapes


def prove(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """Raise `DialectRefused` unless ``config`` with this file's tensors is exactly this model in transformers."""
    if checkpoint.plan.entries:
        raise DialectRefused(
            f"{len(checkpoint.plan.entries)} tensors are stored as integers, which the stock class cannot read"
        )
    ragged = sorted(key for key, value in config.items() if value is None and not _may_be_none(checkpoint, key))
    if ragged:
        raise DialectRefused(f"no one number says it for all blocks as the class would read it: {', '.join(ragged)}")
    try:
        shapes = file_shapes(checkpoint)
        read = family_for(config, shapes).read(config, shapes)
    except (ArchtoolError, KeyError) as error:
        raise DialectRefused(f"its configuration does not read back: {error}") from error
    found = next(differences(read, checkpoint.architecture), "")
    if found:
        raise DialectRefused(f"the stock class would compute something else: {found}")
    reason = refusal(config)
    if reason:
        raise DialectRefused(f"transformers refuses the configuration: {reason}")


def _may_be_none(checkpoint: Checkpoint, key: str) -> bool:
    from archtool.export.base import base_config

    base = base_config(checkpoint)
    return (key in base and base[key] is None) or key in ("sliding_window", "rope_scaling")


def differences(made: Architecture, wanted: Architecture) -> Iterator[str]:
    """Where two architectures differ, block names and facts apart: ``"path: a, not b"``."""
    return _differences("", canonical(made), canonical(wanted))


def canonical(arch: Architecture) -> dict[str, Any]:
    """An architecture as plain data with blocks named by position, without facts."""
    data = to_json(arch)
    names = {block.name: f"block {i}" for i, block in enumerate(arch.blocks)}
    data["sizes"] = dict(data["sizes"])
    data.pop("facts", None)
    return _renamed(data, names)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(item, names) for item in value]
    if isinstance(value, str):
        head, dot, rest = value.partition(".")
        return f"{names[head]}{dot}{rest}" if head in names else value
    return value


def _differences(path: str, made: Any, wanted: Any) -> Iterator[str]:
    if isinstance(made, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys([*wanted, *made]):
            yield from _differences(f"{path} {key}".strip(), made.get(key), wanted.get(key))
    elif isinstance(made, list) and isinstance(wanted, list) and len(made) == len(wanted):
        for i, (a, b) in enumerate(zip(made, wanted, strict=True)):
            yield from _differences(f"{path}[{i}]", a, b)
    elif made != wanted:
        yield f"{path}: {_short(made)}, not {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def refusal(config: Mapping[str, Any]) -> str:
    """Why transformers does not build this configuration; empty if it does."""
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    kind = config.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        return f"it has no class for model_type {kind!r}" if kind else "config.json names no model_type"
    try:
        made = transformers.AutoConfig.for_model(**config)
        cls = getattr(transformers, str((config.get("architectures") or [""])[0]), None)
        with torch.device("meta"):
            cls(made) if cls is not None else transformers.AutoModel.from_config(made)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, StrictDataclassError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
    return ""
