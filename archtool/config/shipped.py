"""The recipes that ship with archtool, and finding one by name or path."""

from pathlib import Path

from archtool.errors import RecipeError
from archtool.registry import suggestion

NAME_TABLES = "names"


def shipped_folder(name: str) -> Path:
    """A folder of shipped YAML: inside an installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def recipe_root() -> Path:
    """The folder of shipped recipes."""
    return shipped_folder("recipes")


def shipped_recipes() -> dict[str, Path]:
    """Name (path without suffix, such as ``language/prune-half``) → file; name tables are not recipes."""
    root = recipe_root()
    paths = [path for path in sorted(root.rglob("*.yaml")) if path.parent != root / NAME_TABLES]
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}


def find_recipe(text: str) -> Path:
    """The file called ``text``: a path, or the name of a shipped recipe; raises `RecipeError`."""
    if Path(text).is_file():
        return Path(text)
    known = shipped_recipes()
    name = text.removeprefix("recipes/").removesuffix(".yaml")
    if name not in known:
        raise RecipeError(f"there is no recipe file or shipped recipe `{text}`", suggestion(name, known))
    return known[name]


def recipe_summary(path: Path) -> str:
    """The first comment line of a recipe."""
    first = path.read_text(encoding="utf-8").lstrip().partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
