"""Architectures to build, as YAML: a family and what its ``config.json`` would say.

They are named (shipped files), given as a file, or written into a recipe under ``model: {build: ...}``. Reading one
imports no torch; `build_model` does.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from archtool.config.check import check
from archtool.config.document import Document, load_yaml, parse_yaml
from archtool.config.shipped import shipped_folder
from archtool.errors import ErrorList, InputError, RecipeError
from archtool.registry import suggestion

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint


class Preset(BaseModel):
    """An architecture to build."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str = Field(description="such as vit or llama")
    config: dict[str, Any] = Field(description="as the family's config.json would say")


def shipped_presets() -> dict[str, Path]:
    """Name (such as ``vit-digits``) → file."""
    root = shipped_folder("search_spaces") / "models"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def read_preset(source: str | Mapping[str, Any]) -> tuple[Preset, Document]:
    """The preset of a name, a file or a mapping, with its document for the places of mistakes.

    Raises:
        RecipeError: no such name or file, or mistakes in it (several: `ErrorList`).
    """
    document = _document(source)
    if not isinstance(document.data, dict):
        raise RecipeError(
            "this is no architecture: expected the keys family and config",
            "`build: vit-digits` names one that ships with archtool",
            document.where_value(()),
        )
    preset, problems = check(document, Preset, document.data)
    if preset is None:
        raise problems[0] if len(problems) == 1 else ErrorList(problems)
    return preset, document


def _document(source: str | Mapping[str, Any]) -> Document:
    if not isinstance(source, str):
        import yaml

        return parse_yaml(yaml.safe_dump(dict(source), sort_keys=False), Path("model.build"))
    if Path(source).is_file():
        return load_yaml(Path(source))
    known = shipped_presets()
    if source not in known:
        raise RecipeError(f"there is no file or shipped architecture `{source}`", suggestion(source, known))
    return load_yaml(known[source])


def build_model(source: str | Mapping[str, Any], seed: int) -> "Checkpoint":
    """Build what a recipe names; mistakes are a `RecipeError` at their line and column."""
    from archtool.model.preset import built

    preset, document = read_preset(source)
    try:
        return built(preset.family, preset.config, seed)
    except InputError as problem:
        raise _placed(problem, preset.config, document) from problem


def _placed(problem: InputError, config: Mapping[str, Any], document: Document) -> RecipeError:
    """The same mistake at the key that the message names, else at the whole configuration."""
    words = set(re.findall(r"\w+", problem.what))
    named = [key for key in config if key in words and key != "model_type"]
    loc = ("config", named[0]) if named else ("family",) if "family" in words else ("config",)
    return RecipeError(problem.what.replace("config.json", "config"), problem.hint, document.where_key(loc))
