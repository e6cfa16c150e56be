"""The ``data`` of a recipe as encoded examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.spec import TASKS, DataSpec
from archtool.errors import RecipeError

if TYPE_CHECKING:
    from archtool.config.recipe import Recipe
    from archtool.data.dataset import Data

FILES: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("validation", "dev", "val"),
    "test": ("test",),
}
"""Split → the recipe's keys that give it a file of its own."""


def recipe_data_spec(recipe: "Recipe", split: str, *, labelled: bool = True) -> DataSpec:
    """What the recipe says about its data, for one split (``train``, ``val``, ``test``, or all of it: empty).

    ``data.train``, ``data.test``, ... are files of their own; ``data.path`` is cut into splits unless
    ``data.split`` says which one it is.

    Raises:
        RecipeError: no data, or none for this split.
    """
    values: dict[str, Any] = dict(recipe.data or {})
    own = {name: values.pop(key) for name, keys in FILES.items() for key in keys if key in values}
    for key in ("names", "calibration"):
        values.pop(key, None)
    path = values.pop("path", None)
    if split in own:
        values |= {"source": own[split], "split": ""}
    elif path is not None:
        values = {"split": split, **values, "source": path}
    else:
        hint = "give `data: PATH` in the recipe, or --data on the command line"
        raise RecipeError(f"the recipe names no data{f' for {split}' if split else ''}", hint)
    if recipe.task in TASKS:
        values.setdefault("task", recipe.task)
    values.setdefault("seed", recipe.seed)
    return DataSpec.from_json({**values, "labelled": labelled and values.get("labelled", True)})


def load_recipe_data(
    recipe: "Recipe", split: str, model_folder: Path | None = None, *, labelled: bool = True
) -> "Data":
    """The examples of one split of the recipe's data; errors are those of `archtool.data.load_data`."""
    from archtool.data.load import load_data

    return load_data(recipe_data_spec(recipe, split, labelled=labelled), model_folder)
