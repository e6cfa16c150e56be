"""The wheel holds all that runs need: it is built, installed into a folder and used far from the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
WANTED = (
    "archtool",
    "recipes",
    "search_spaces",
    "benchmarks",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "MANIFEST.in",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The package as pip installs it from its wheel."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    for name in WANTED:
        path = REPO / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    if not (REPO / "README.md").exists():
        (source / "README.md").write_text("archtool\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)], check=True
    )
    (wheel,) = wheels.glob("archtool-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def archtool(site, folder, *argv):
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "archtool.cli.main", *argv],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_help_comes_from_the_wheel(site, tmp_path):
    code = "import archtool; print(archtool.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(site)
    assert "prune" in archtool(site, tmp_path, "--help").stdout


def test_recipes_travel_in_the_wheel(site, tmp_path):
    done = archtool(site, tmp_path, "recipes", "ls", "--json")
    assert done.returncode == 0, done.stderr
    shipped = {path.stem for path in (REPO / "recipes").rglob("*.yaml") if path.parent.name != "names"}
    assert shipped <= {Path(row["name"]).name for row in json.loads(done.stdout)}


def test_search_spaces_and_types_travel_in_the_wheel(site):
    spaces = site / "archtool" / "_search_spaces"
    packed = {p.relative_to(spaces) for p in spaces.rglob("*.yaml")}
    assert packed == {p.relative_to(REPO / "search_spaces") for p in (REPO / "search_spaces").rglob("*.yaml")}
    assert (site / "archtool" / "py.typed").exists()
