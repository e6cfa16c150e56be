"""Puts ``recipes/``, ``search_spaces/`` and the measured results into the wheel, as data folders of the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = {"recipes": "*.yaml", "search_spaces": "*.yaml", "benchmarks": "results.json"}


class BuildWithRecipes(build_py):
    """``build_py`` that also copies these files; an editable install reads them from the checkout."""

    def run(self) -> None:
        """Build the package, then add the data."""
        super().run()
        if self.editable_mode:
            return
        for source, pattern in DATA.items():
            for file in sorted(Path(source).rglob(pattern)):
                copy = Path(self.build_lib, "archtool", f"_{source}", file.relative_to(source))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildWithRecipes})
