"""``recipe.lock.yaml``: the recipe with every default filled in, runnable again as it stands."""

from collections.abc import Mapping
from typing import Any

from archtool.config.recipe import Recipe


def lock_text(recipe: Recipe, fingerprint: str, inputs: Mapping[str, str]) -> str:
    """The lock file's text: the resolved recipe, then the fingerprint and the hash of each input."""
    import yaml

    from archtool import __version__

    lock: dict[str, Any] = {"fingerprint": fingerprint, "inputs": dict(inputs), "archtool": __version__}
    data = recipe.resolved() | {"lock": lock}
    head = "# Written by archtool: the fully resolved recipe. Run it again with `archtool run` on this file.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
