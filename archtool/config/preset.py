"""Architectures to build, as YAML: a family or a builder of the zoo, with its settings.

They are named (shipped files), given as a file, or written into a recipe under ``model: {build: ...}``. Reading one
imports no torch; `build_model` does.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archtool.config.check import FieldError, check
from archtool.config.document import Document, load_yaml, parse_yaml
from archtool.config.override import override
from archtool.config.shipped import shipped_folder
from archtool.config.stated import Stated
from archtool.errors import ErrorList, InputError, RecipeError
from archtool.registry import suggestion

if TYPE_CHECKING:
    from archtool.ir.architecture import Architecture
    from archtool.model.checkpoint import Checkpoint


class Preset(BaseModel):
    """An architecture to build."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str = Field("", description="such as vit or llama")
    zoo: str = Field("", description="instead of a family: a builder such as cct")
    config: dict[str, Any] = Field(description="as the family's config.json would say, or the builder's settings")
    states: Stated | None = Field(None, description="parameters (and macs) as published, with their source")

    @model_validator(mode="after")
    def _one_maker(self) -> "Preset":
        if bool(self.family) == bool(self.zoo):
            raise FieldError("give either `family` or `zoo`", "family: vit  or  zoo: cct")
        return self

    @property
    def maker(self) -> str:
        """The family or the builder."""
        return self.family or self.zoo


def shipped_presets() -> dict[str, Path]:
    """Name (such as ``vit-digits``) → file."""
    root = shipped_folder("search_spaces") / "models"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def read_preset(source: str | Mapping[str, Any], sets: Sequence[str] = ()) -> tuple[Preset, Document]:
    """The preset of a name, a file or a mapping, with its document for the places of mistakes.

    ``sets`` are changes of its settings (``"num_labels=5"``); what is stated of the original then no longer holds.

    Raises:
        RecipeError: no such name or file, or mistakes in it (several: `ErrorList`).
        UsageError: a change that leads nowhere.
    """
    document = _document(source)
    if not isinstance(document.data, dict):
        raise RecipeError(
            "this is no architecture: expected the keys family (or zoo) and config",
            "`build: vit-digits` names one that ships with archtool",
            document.where_value(()),
        )
    for text in sets:
        override(document, f"config.{text}")
        document.data.pop("states", None)
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


def architecture(preset: Preset, document: Document) -> tuple["Architecture", dict[str, Any]]:
    """What a preset describes, and its complete ``config.json``.

    Raises:
        RecipeError: a mistake, or another number than the preset states, at its line and column.
    """
    from archtool.ir.cost import cost
    from archtool.model.preset import architecture_of, composed

    try:
        made = architecture_of(preset.family, preset.config) if preset.family else composed(preset.zoo, preset.config)
    except InputError as problem:
        raise _placed(problem, preset, document) from problem
    wrong = preset.states.problem(vars(cost(made[0]))) if preset.states else ""
    if wrong:
        where = document.where_key(("states", wrong.partition(":")[0]))
        raise RecipeError(wrong, "correct the settings, or the statement", where)
    return made


def build_model(source: str | Mapping[str, Any], seed: int, sets: Sequence[str] = ()) -> "Checkpoint":
    """Build what a recipe names; mistakes are a `RecipeError` at their line and column."""
    from archtool.model.preset import initialised

    return initialised(*architecture(*read_preset(source, sets)), seed)


def _placed(problem: InputError, preset: Preset, document: Document) -> RecipeError:
    """The same mistake at the key that the message names, else at the whole configuration."""
    words = set(re.findall(r"\w+", problem.what))
    named = [key for key in preset.config if key in words and key != "model_type"]
    maker = "family" if preset.family else "zoo"
    loc = ("config", named[0]) if named else (maker,) if {maker, preset.maker} & words else ("config",)
    return RecipeError(problem.what.replace("config.json", "config"), problem.hint, document.where_key(loc))
