"""``model: {build: ...}`` of a recipe: an architecture by name, file or mapping, with random weights."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archtool.config.document import Document
from archtool.config.preset import read_preset
from archtool.errors import InputError, RecipeError

if TYPE_CHECKING:
    from archtool.model.checkpoint import Checkpoint


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
