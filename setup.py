"""Puts the top-level ``recipes/`` and ``search_spaces/`` into the wheel, as data folders of the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = {"recipes": "_recipes", "search_spaces": "_search_spaces"}


class BuildWithRecipes(build_py):
    """``build_py`` that also copies the YAML folders; an editable install reads them from the checkout."""

    def run(self) -> None:
        """Build the package, then add the data."""
        super().run()
        if self.editable_mode:
            return
        for source, target in DATA.items():
            for file in sorted(Path(source).rglob("*.yaml")):
                copy = Path(self.build_lib, "archtool", target, file.relative_to(source))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildWithRecipes})
